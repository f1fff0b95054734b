"""A model held against the oracle: every number again sentence by sentence, with a model whose excess is known too."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from llm_lab.config import MaskingConfig, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks import known_language
from llm_lab.tasks.known_language import compare, log_guesses, unframed
from llm_lab.text.batches import fixed_batches
from llm_lab.text.dependencies import KINDS, label
from llm_lab.text.grammar import easy_language, hard_language
from llm_lab.text.masking import IGNORED, mask_tokens, row_noise
from llm_lab.text.optimum import posterior
from llm_lab.text.sentences import HELD_OUT, SentenceDataset, framed


@pytest.fixture(scope="module")
def dataset():
    return SentenceDataset(hard_language())


@pytest.fixture(scope="module")
def model(dataset):
    """Random weights, large enough that guesses differ from word to word; dropout would show."""
    torch.manual_seed(0)
    shape = ModelConfig(dataset.tokenizer.vocabulary_size, 16, 2, 2, 24, max_length=26, dropout=0.3)
    built = MaskedLanguageModel(shape)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


@cache
def sampled(language):
    """The held-out sentences."""
    return language.sample(2000, HELD_OUT)


def masked_row(dataset, number, masking):
    """(what is seen of a held-out sentence, labels), without frame and padding, masked by its own noise."""
    ids = sampled(dataset.language)[number]
    row = torch.from_numpy(framed(ids[None], dataset.tokenizer))
    noise = row_noise(0, np.zeros(1, int), np.array([number]), row.shape[1])
    inputs, labels = mask_tokens(row, masking, 4, range(5), dataset.tokenizer.vocabulary_size, noise)
    length = int((ids != 0).sum())
    return inputs[0, 1 : length + 1], labels[0, 1 : length + 1]


def slowly(model, dataset, sentences, masking):
    """(kind, sentence, entropy, excess) of each target: one sentence at a time, one target at a time."""
    language, found = dataset.language, []
    trees = language.trees(len(dataset.held_out), HELD_OUT)[:sentences]
    for number, tree in enumerate(trees):
        inputs, labels = masked_row(dataset, number, masking)
        p = posterior(language, inputs[None], masking.rate, masking.scheme)[0]
        with torch.no_grad():
            logits = model.eval()(torch.cat((torch.tensor([2]), inputs, torch.tensor([3])))[None])[0, 1:-1].double()
        for t, word in enumerate(label(tree)):
            if labels[t] != IGNORED:
                entropy = -sum(a * math.log(a) for a in p[t].tolist() if a > 0)
                log_q = logits[t].log_softmax(dim=-1).tolist()
                excess = sum(a * (math.log(a) - b) for a, b in zip(p[t].tolist(), log_q, strict=True) if a > 0)
                found.append((word.kind, number, entropy, excess))
    return found


def clustered_by_hand(values):
    """[(sentence, value)] -> the mean and its error, from the sums of each sentence."""
    mean = sum(value for _, value in values) / len(values)
    sums = {}
    for number, value in values:
        sums[number] = sums.get(number, 0) + value - mean
    square = sum(s * s for s in sums.values()) * len(sums) / max(len(sums) - 1, 1)
    return mean, math.sqrt(square) / len(values), len(values)


@pytest.mark.parametrize(("scheme", "rate"), [("pure", 0.15), ("80/10/10", 0.3)])
def test_floor_and_excess_are_those_of_each_sentence_by_itself(model, dataset, scheme, rate, monkeypatch):
    monkeypatch.setattr(known_language, "BATCH", 20)
    masking, sentences = MaskingConfig(rate, scheme, "bernoulli"), 45  # three batches
    given = None if scheme == "pure" else masking
    measured = compare(model.train(), dataset, sentences, given)
    expected = slowly(model, dataset, sentences, masking)
    floors = (2, measured.floor, measured.floor_by_kind)
    for place, whole, by_kind in (floors, (3, measured.excess, measured.excess_by_kind)):
        assert whole == pytest.approx(clustered_by_hand([(row[1], row[place]) for row in expected]), rel=1e-4, abs=1e-9)
        assert list(by_kind) == [kind for kind in KINDS if any(row[0] == kind for row in expected)]
        for kind, estimate in by_kind.items():
            values = [(row[1], row[place]) for row in expected if row[0] == kind]
            assert estimate == pytest.approx(clustered_by_hand(values), rel=1e-3, abs=1e-6), kind
    assert sum(estimate.targets for estimate in measured.excess_by_kind.values()) == measured.excess.targets
    assert measured.excess.mean > 1


def test_all_sentences_are_held_out_ones_unless_fewer_are_asked_for():
    few = SentenceDataset(easy_language())
    object.__setattr__(few, "__dict__", {**few.__dict__, "held_out": few.held_out[:20]})
    small = MaskedLanguageModel(ModelConfig(few.tokenizer.vocabulary_size, 8, 1, 2, 8, max_length=26))
    assert compare(small, few) == compare(small, few, 20)
    assert compare(small, few, 5).floor.targets < compare(small, few).floor.targets
    assert set(compare(small, few).floor_by_kind) <= set(few.language.kinds)


class Oracle(torch.nn.Module):
    """A model whose guesses are the posterior, mixed with a share of the uniform guess."""

    def __init__(self, language, rate, scheme, share=0.0):
        super().__init__()
        self.language, self.rate, self.scheme, self.share = language, rate, scheme, share
        self.here = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mask=None, positions=None):
        seen = inputs[:, 1:].masked_fill(inputs[:, 1:] == 3, 0)
        p = posterior(self.language, seen, self.rate, self.scheme)
        p = torch.cat((torch.full_like(p[:, :1], 1.0), p), dim=1)
        p = (1 - self.share) * p + self.share / p.shape[-1]
        return p.clamp(min=1e-30).log()[torch.arange(len(p))[:, None], positions]


@pytest.mark.parametrize("scheme", ["pure", "80/10/10"])
def test_the_oracle_itself_has_no_excess(dataset, scheme):
    masking = MaskingConfig(0.15, scheme, "bernoulli")
    found = compare(Oracle(dataset.language, 0.15, scheme), dataset, 60, masking)
    assert abs(found.excess.mean) < 1e-5 and all(abs(e.mean) < 1e-5 for e in found.excess_by_kind.values())
    mixed = compare(Oracle(dataset.language, 0.15, scheme, 0.5), dataset, 60, masking)
    assert 0.1 < mixed.excess.mean < math.log(2)  # half of the right guess is always there
    assert mixed.floor == found.floor


@pytest.mark.parametrize("language", [hard_language(), easy_language()], ids=["hard", "easy"])
def test_without_the_frame_a_batch_is_sentences_and_labels(language):
    dataset = SentenceDataset(language)
    masking = MaskingConfig(0.3, "80/10/10", "bernoulli")
    rows = dataset.held_out[:60]
    for start, batch in zip(range(0, 60, 20), fixed_batches(rows, dataset.tokenizer, masking, 20), strict=True):
        inputs, labels = unframed(batch)
        assert inputs.shape == labels.shape == (20, batch.inputs.shape[1] - 2)
        ids = torch.from_numpy(sampled(language)[start : start + 20, : inputs.shape[1]])
        target = labels != IGNORED
        assert int(target.sum()) == batch.num_targets and torch.equal(labels[target], ids[target])
        assert torch.equal(inputs[~target], ids[~target])
        for row in range(20):
            seen, expected = masked_row(dataset, start + row, masking)
            assert torch.equal(inputs[row, : len(seen)], seen) and torch.equal(labels[row, : len(seen)], expected)
            assert (inputs[row, len(seen) :] == 0).all() and (labels[row, len(seen) :] == IGNORED).all()


def test_guesses_are_in_the_order_of_the_labels(model, dataset):
    (batch,) = fixed_batches(dataset.held_out[:30], dataset.tokenizer, MaskingConfig(0.4, "pure", "bernoulli"), 30)
    found = log_guesses(model, batch)
    _, labels = unframed(batch)
    full = model.eval()(batch.inputs, batch.mask).detach()[:, 1:-1].log_softmax(dim=-1)
    assert torch.allclose(found, full[labels != IGNORED], rtol=0, atol=1e-5)
    assert not found.requires_grad and len(found) == batch.num_targets
