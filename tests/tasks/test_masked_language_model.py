"""The task: its four parts against sums and softmaxes by hand, and models whose answers are known."""

import math

import numpy as np
import pytest
import torch

from llm_lab.config import EVALUATION_MASKING, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import (
    FillError,
    encode,
    fill,
    loss_sum,
    pseudo_perplexity,
    score,
    unknown_words,
)
from llm_lab.text.batches import fixed_batches
from llm_lab.text.masking import IGNORED
from llm_lab.text.tokenizer import SPECIAL_TOKENS

SENTENCE = "A young pilot paints the [MASK] lamp and a green [MASK] near the river."


@pytest.fixture
def model(tiny_tokenizer):
    """Random weights, large enough that no two words are equally probable; dropout would show."""
    torch.manual_seed(0)
    size = tiny_tokenizer.vocabulary_size
    built = MaskedLanguageModel(ModelConfig(size, 16, 2, 2, 24, max_length=64, dropout=0.3))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


@pytest.fixture
def unigram_model(model, tiny_dataset):
    """A model that says the same always: the frequencies of the training text (its bias is their logarithm)."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.head.bias.copy_(torch.tensor(tiny_dataset.unigram).clamp(min=1e-30).log())
    return model


@pytest.fixture(scope="module")
def batches(tiny_dataset):
    return fixed_batches(tiny_dataset.held_out, tiny_dataset.tokenizer, EVALUATION_MASKING, 16)


def targets_of(batches):
    """(batch, row, position, target) of every target that counts."""
    for batch in batches:
        for row in range(len(batch.inputs)):
            for place, target in zip(batch.positions[row].tolist(), batch.targets[row].tolist(), strict=True):
                if target != IGNORED:
                    yield batch, row, place, target


# -- encode -----------------------------------------------------------------------------------------------------------


def test_a_text_is_one_framed_row(tiny_tokenizer):
    ids = encode(SENTENCE, tiny_tokenizer, 64)
    assert ids.tolist() == [tiny_tokenizer.encode(SENTENCE)]
    exactly = len(ids[0])
    assert torch.equal(encode(SENTENCE, tiny_tokenizer, exactly), ids)
    with pytest.raises(FillError, match=f"{exactly} tokens, this model reads at most {exactly - 1}: shorten it"):
        encode(SENTENCE, tiny_tokenizer, exactly - 1)


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_text_is_refused(tiny_tokenizer, text):
    with pytest.raises(FillError, match=r"the sentence is empty: write one with a \[MASK\] in it"):
        encode(text, tiny_tokenizer, 64)


# -- loss -------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_over_the_targets(model, batches):
    model.eval()
    batch = batches[0]
    shares = model(batch.inputs).double().softmax(dim=-1)
    expected = -sum(shares[row, place, target].log().item() for _, row, place, target in targets_of([batch]))
    assert loss_sum(model, batch).item() == pytest.approx(expected, rel=1e-5)
    parts = sum(loss_sum(model, part).item() for part in batch.split(4))
    assert parts == pytest.approx(expected, rel=1e-5)


# -- predict ----------------------------------------------------------------------------------------------------------


def test_guesses_are_the_softmax_over_words(model, tiny_tokenizer):
    guesses = fill(model.train(), tiny_tokenizer, SENTENCE, top=7)
    ids = torch.tensor([tiny_tokenizer.encode(SENTENCE)])
    logits = model.eval()(ids)[0].double()
    blanks = [i for i, token in enumerate(ids[0].tolist()) if token == tiny_tokenizer.mask_id]
    assert len(guesses) == len(blanks) == 2
    for blank, found in zip(blanks, guesses, strict=True):
        words = {i: logits[blank, i].exp().item() for i in range(5, tiny_tokenizer.vocabulary_size)}
        best = sorted(words, key=words.get, reverse=True)[:7]
        assert [guess.word for guess in found] == [tiny_tokenizer.token_of(i) for i in best]
        expected = [words[i] / sum(words.values()) for i in best]
        assert [guess.probability for guess in found] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("top", [300, 10_000])
def test_all_words_together_have_probability_1_and_no_special_token_is_among_them(model, tiny_tokenizer, top):
    (found,) = fill(model, tiny_tokenizer, "The [MASK].", top=top)
    words = set(tiny_tokenizer.vocabulary) - set(SPECIAL_TOKENS)
    assert {guess.word for guess in found} == words
    assert sum(guess.probability for guess in found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", ["No blank here.", "The [mask] is small.", "MASK", "[MASK is open"])
def test_a_sentence_without_a_blank_is_refused(model, tiny_tokenizer, text):
    with pytest.raises(FillError, match=r"the sentence has no \[MASK\]: write \[MASK\], in capitals and brackets"):
        fill(model, tiny_tokenizer, text)


def test_an_empty_or_endless_sentence_is_refused(model, tiny_tokenizer):
    with pytest.raises(FillError, match="the sentence is empty"):
        fill(model, tiny_tokenizer, " ")
    with pytest.raises(FillError, match=r"the text has 10,003 tokens, this model reads at most 64"):
        fill(model, tiny_tokenizer, "[MASK] " + "lamp " * 10_000)


def test_unknown_words_are_named(tiny_tokenizer):
    assert unknown_words(tiny_tokenizer, "The лампа near the [MASK] and the ∑∑.") == ["лампа", "∑∑."]
    assert unknown_words(tiny_tokenizer, SENTENCE) == []


# -- score ------------------------------------------------------------------------------------------------------------


def test_the_score_is_a_mean_over_targets_and_not_over_batches(model, batches):
    measured = score(model.train(), batches)
    model.eval()
    nats, right, count = 0.0, 0, 0
    for batch, row, place, target in targets_of(batches):
        logits = model(batch.inputs[row : row + 1])[0, place].double()
        nats -= logits.log_softmax(dim=-1)[target].item()
        right += int(logits.argmax()) == target
        count += 1
    assert measured == pytest.approx({"held_out_loss": nats / count, "held_out_accuracy": right / count}, rel=1e-5)


def test_a_model_of_frequencies_scores_as_the_unigram_baseline(unigram_model, tiny_dataset, batches):
    from llm_lab.text.baselines import ladder

    unigram = ladder(tiny_dataset, batches)[1]
    measured = score(unigram_model, batches)
    assert measured["held_out_loss"] == pytest.approx(unigram.loss, abs=1e-5)
    assert measured["held_out_accuracy"] == pytest.approx(unigram.accuracy)


def test_pseudo_perplexity_hides_one_token_at_a_time(model, tiny_tokenizer):
    texts = ["The old lamp.", "A green boat near the river before sunrise."]
    model.train()  # dropout must not act
    measured = pseudo_perplexity(model, tiny_tokenizer, texts)
    model.eval()
    nats, count = 0.0, 0
    for text in texts:
        ids = tiny_tokenizer.encode(text)
        for i in range(1, len(ids) - 1):
            hidden = torch.tensor([ids[:i] + [tiny_tokenizer.mask_id] + ids[i + 1 :]])
            nats -= model(hidden)[0, i].double().log_softmax(dim=-1)[ids[i]].item()
            count += 1
    assert measured == pytest.approx(math.exp(nats / count), rel=1e-5)


def test_pseudo_perplexity_of_frequencies_is_their_cross_entropy(unigram_model, tiny_dataset):
    """Texts longer than 64 tokens are cut and more than 64 targets are read in pieces: the closed form stays."""
    texts = [" ".join(d.text for d in tiny_dataset.corpus.documents[i : i + 2]) for i in (0, 4)]
    tokens = [i for text in texts for i in tiny_dataset.tokenizer.encode(text)[:64] if i > 4]
    mean = -sum(math.log(tiny_dataset.unigram[i]) for i in tokens) / len(tokens)
    measured = pseudo_perplexity(unigram_model, tiny_dataset.tokenizer, texts)
    assert measured == pytest.approx(math.exp(mean), rel=1e-4)


def test_a_text_of_unknown_words_alone_tells_nothing(model, tiny_tokenizer):
    alone = pseudo_perplexity(model, tiny_tokenizer, ["The old lamp."])
    assert pseudo_perplexity(model, tiny_tokenizer, ["лампа", "The old lamp.", "中"]) == pytest.approx(alone)
    with pytest.raises(ValueError, match="no word of this text is in the model's vocabulary"):
        pseudo_perplexity(model, tiny_tokenizer, ["лампа"])
    unknown = np.full((2, 16), tiny_tokenizer.unknown_id)
    with pytest.raises(ValueError, match="no word of this text is in the model's vocabulary"):
        score(model, fixed_batches(unknown, tiny_tokenizer, EVALUATION_MASKING, 16))
