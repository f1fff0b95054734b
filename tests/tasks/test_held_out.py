"""The exam and a model's answers: every target again by itself, its document found by walking through the text."""

import math

import numpy as np
import pytest
import torch

from llm_lab.config import EVALUATION_MASKING, MaskingConfig, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.held_out import (
    SHOWN,
    Answers,
    answers,
    documents_of,
    exam_result,
    held_out_batches,
    shown_at,
    unigram_loss,
)
from llm_lab.tasks.masked_language_model import score
from llm_lab.text.baselines import ladder
from llm_lab.text.grammar import easy_language, hard_language
from llm_lab.text.masking import IGNORED
from llm_lab.text.sentences import SentenceDataset


@pytest.fixture(scope="module")
def model(tiny_tokenizer):
    """Random weights, large enough that guesses differ from word to word; dropout would show."""
    torch.manual_seed(0)
    built = MaskedLanguageModel(ModelConfig(tiny_tokenizer.vocabulary_size, 16, 2, 2, 24, max_length=64, dropout=0.3))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


def targets_of(batches):
    """(batch, row, place, target) of every target, in order."""
    for batch in batches:
        for row in range(len(batch.inputs)):
            for place, target in zip(batch.positions[row].tolist(), batch.targets[row].tolist(), strict=True):
                if target != IGNORED:
                    yield batch, row, place, target


# -- the exam ---------------------------------------------------------------------------------------------------------


def test_held_out_batches_hide_15_percent_and_a_part_is_spread_over_all(tiny_dataset):
    batches = held_out_batches(tiny_dataset)
    rows = torch.cat([batch.inputs for batch in batches])
    assert len(rows) == len(tiny_dataset.held_out)
    hidden = (rows == tiny_dataset.tokenizer.mask_id).float().mean().item()
    assert hidden == pytest.approx(EVALUATION_MASKING.rate, abs=0.04)
    few = torch.cat([batch.inputs for batch in held_out_batches(tiny_dataset, 10)])
    assert len(few) == 10
    words = lambda inputs, row: (inputs == row) | (inputs == tiny_dataset.tokenizer.mask_id)  # noqa: E731
    original = torch.from_numpy(tiny_dataset.held_out.astype("int64"))
    places = [next(i for i, row in enumerate(original) if words(one, row).all()) for one in few]
    assert places == list(range(0, 10 * (len(original) // 10), len(original) // 10))
    assert len(torch.cat([b.inputs for b in held_out_batches(tiny_dataset, 10**6)])) == len(rows)


def test_other_masks_only_where_they_are_asked_for(tiny_dataset):
    usual, other, half = (
        held_out_batches(tiny_dataset, 8, masking, seed)
        for masking, seed in ((None, 0), (None, 1), (MaskingConfig(0.5), 0))
    )
    assert torch.equal(usual[0].inputs, held_out_batches(tiny_dataset, 8)[0].inputs)
    assert not torch.equal(usual[0].inputs, other[0].inputs)
    assert usual[0].num_targets == other[0].num_targets < half[0].num_targets


@pytest.mark.parametrize("rows", [None, 12, 70])
def test_the_document_of_a_target_is_found_by_reading_the_text_from_its_start(tiny_dataset, rows):
    batches = held_out_batches(tiny_dataset, rows)
    documents = [d.text for d in tiny_dataset.corpus.split("held_out")]
    stream = [i for text in documents for i in tiny_dataset.tokenizer.encode(text)]  # as it was packed
    number_at = np.repeat(range(len(documents)), [len(tiny_dataset.tokenizer.encode(text)) for text in documents])
    length = tiny_dataset.held_out.shape[1]
    have = len(tiny_dataset.held_out)
    numbers = list(range(have)) if rows is None or rows >= have else [i * (have // rows) for i in range(rows)]
    starts = iter([i * length for i in numbers])
    expected = []
    for batch in batches:
        for positions, targets in zip(batch.positions.tolist(), batch.targets.tolist(), strict=True):
            start = next(starts)
            for place, target in zip(positions, targets, strict=True):
                if target != IGNORED:
                    assert stream[start + place] == target
                    expected.append(number_at[start + place])
    assert documents_of(tiny_dataset, batches, rows).tolist() == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize("language", [easy_language(), hard_language()], ids=lambda language: language.name)
def test_a_sentence_is_a_document(language):
    dataset = SentenceDataset(language)
    batches = held_out_batches(dataset, 100)
    expected, number = [], 0
    for batch in batches:
        for targets in batch.targets:
            expected += [number] * int((targets != IGNORED).sum())
            number += len(dataset.held_out) // 100
    assert documents_of(dataset, batches, 100).tolist() == expected


def test_what_is_shown_at_a_target(tiny_dataset):
    mask_id = tiny_dataset.tokenizer.mask_id
    assert shown_at(held_out_batches(tiny_dataset), mask_id).unique().tolist() == [0]
    batches = held_out_batches(tiny_dataset, masking=MaskingConfig(0.5, "80/10/10"))
    expected = []
    for batch, row, place, target in targets_of(batches):
        seen = batch.inputs[row, place].item()
        expected.append("[MASK]" if seen == mask_id else "the word itself" if seen == target else "random word")
    found = shown_at(batches, mask_id)
    assert [SHOWN[i] for i in found.tolist()] == expected
    share = torch.bincount(found).double() / len(found)
    assert torch.allclose(share, torch.tensor([0.8, 0.1, 0.1]).double(), atol=4 * math.sqrt(0.16 / len(found)))


# -- the answers ------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_each_target_by_itself(model, tiny_dataset):
    batches = held_out_batches(tiny_dataset, 20)
    found = answers(model.train(), batches)
    model.eval()
    for i, (batch, row, place, target) in enumerate(targets_of(batches)):
        with torch.no_grad():
            p = model(batch.inputs[row : row + 1])[0, place].double().softmax(dim=-1)
        assert found.nats[i].item() == pytest.approx(-p[target].log().item(), rel=1e-5)
        assert found.right[i].item() == (int(p.argmax()) == target)
        assert found.confidence[i].item() == pytest.approx(p.max().item(), rel=1e-4)
        assert found.expected[i].item() == pytest.approx(-(p * p.log()).sum().item(), rel=1e-4)
    assert len(found.nats) == i + 1 and not found.nats.requires_grad


def test_their_mean_is_the_score(model, tiny_dataset):
    batches = held_out_batches(tiny_dataset)
    found, expected = answers(model, batches), score(model, batches)
    assert found.nats.mean().item() == pytest.approx(expected["held_out_loss"], rel=1e-6)
    assert found.right.double().mean().item() == pytest.approx(expected["held_out_accuracy"])


def test_a_model_that_knows_nothing_expects_to_pay_ln_v(model, tiny_dataset):
    blank = MaskedLanguageModel(model.config)
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.zero_()
    found = answers(blank, held_out_batches(tiny_dataset, 4))
    for values in (found.nats, found.expected, -found.confidence.log()):
        assert torch.allclose(values, torch.full_like(values, math.log(model.config.vocabulary_size)), atol=1e-5)


def test_no_targets_no_answers(model):
    with pytest.raises(ValueError, match="no word of this text is in the model's vocabulary"):
        answers(model, [])


def test_the_result_is_a_mean_with_its_interval():
    nats = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    found = Answers(nats, torch.tensor([True, False, False, False]), nats, nats)
    result = exam_result(found, torch.tensor([3, 3, 9, 9]))
    assert {name: result[name] for name in ("targets", "documents")} == {"targets": 4, "documents": 2}
    assert result["held_out_loss"] == 2.5 and result["held_out_accuracy"] == 0.25
    assert result["held_out_loss_interval"] == [1.5, 3.5] and result["held_out_accuracy_interval"] == [0, 0.5]
    alone = exam_result(found, torch.tensor([3, 3, 3, 3]))
    assert alone == {"targets": 4, "documents": 1, "held_out_loss": 2.5, "held_out_accuracy": 0.25}


def test_word_frequencies_pay_what_the_ladder_says(tiny_dataset):
    batches = held_out_batches(tiny_dataset)
    assert unigram_loss(tiny_dataset, batches) == pytest.approx(ladder(tiny_dataset, batches)[1].loss, rel=1e-9)
