"""One label for a text: rows, the loss, guesses and scores against softmaxes by hand."""

import pytest
import torch

from llm_lab.config import ModelConfig
from llm_lab.model.heads import Classifier
from llm_lab.tasks.classification import encode, loss_sum, predict, score
from llm_lab.tasks.labelled import Example
from llm_lab.tasks.rows import padded_batch
from llm_lab.text.masking import IGNORED

LABELS = ("bad", "fine", "good")
EXAMPLES = [
    Example("The old gardener paints the red lamp near the river at noon.", ("good",)),
    Example("One child.", ("bad",)),
    Example("A young pilot carries a boat before sunrise. " * 3, ("fine",)),
    Example("Every tired farmer hides.", ("good",)),
]


@pytest.fixture
def model(tiny_tokenizer):
    """Random weights, large enough that no two labels are equally probable; dropout would show."""
    torch.manual_seed(0)
    built = Classifier(ModelConfig(tiny_tokenizer.vocabulary_size, 16, 2, 2, 24, max_length=64, dropout=0.3), 3)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


@pytest.fixture
def rows(tiny_tokenizer):
    return encode(EXAMPLES, tiny_tokenizer, 64, LABELS)


@pytest.fixture
def by_hand(model, tiny_tokenizer):
    """log p of each label for each text alone, from the encoder's vectors."""

    def computed():
        model.eval()
        found = []
        for example in EXAMPLES:
            x = model.encoder(torch.tensor([tiny_tokenizer.encode(example.content)]))[0].mean(dim=0)
            found.append((model.output.weight @ x + model.output.bias).double().log_softmax(dim=-1))
        return torch.stack(found)

    return computed()


def test_a_row_is_the_framed_text_and_its_label(rows, tiny_tokenizer):
    assert [row.ids for row in rows] == [tiny_tokenizer.encode(example.content) for example in EXAMPLES]
    assert [row.targets for row in rows] == [[2], [0], [1], [2]]
    assert [row.positions for row in rows] == [[0]] * 4 and [row.example for row in rows] == [0, 1, 2, 3]
    assert not any(row.cut for row in rows)
    unlabelled = encode([Example("One child.")], tiny_tokenizer, 64)
    assert unlabelled[0].targets == [IGNORED]


def test_a_long_text_is_cut_and_still_framed(tiny_tokenizer):
    whole = tiny_tokenizer.encode(EXAMPLES[0].content)
    for length in (len(whole), len(whole) - 1, 8):
        (row,) = encode(EXAMPLES[:1], tiny_tokenizer, length, LABELS)
        assert len(row.ids) == length and row.cut == (length < len(whole))
        assert row.ids[:-1] == whole[: length - 1] and row.ids[-1] == tiny_tokenizer.sep_id


def test_the_loss_is_the_sum_over_texts(model, rows, by_hand):
    model.eval()
    expected = -sum(by_hand[i, row.targets[0]].item() for i, row in enumerate(rows))
    batch = padded_batch(rows, 0)
    assert loss_sum(model, batch).item() == pytest.approx(expected, rel=1e-5)
    assert sum(loss_sum(model, part).item() for part in batch.split(2)) == pytest.approx(expected, rel=1e-5)


def test_a_guess_is_the_best_label_and_its_probability(model, rows, by_hand):
    found = predict(model.train(), rows, LABELS, 0)
    assert [one.label for one in found] == [LABELS[i] for i in by_hand.argmax(dim=-1)]
    assert [one.probability for one in found] == pytest.approx(by_hand.exp().max(dim=-1).values.tolist(), rel=1e-5)
    assert len({one.label for one in found}) > 1


def test_the_score_is_a_mean_over_texts(model, rows, by_hand):
    target = [row.targets[0] for row in rows]
    right = [int(by_hand[i].argmax()) == t for i, t in enumerate(target)]
    measured = score(model.train(), rows, LABELS, 0)
    assert 0 < sum(right) < 4
    assert measured == pytest.approx(
        {
            "held_out_loss": -sum(by_hand[i, t].item() for i, t in enumerate(target)) / 4,
            "held_out_accuracy": sum(right) / 4,
        },
        rel=1e-5,
    )
