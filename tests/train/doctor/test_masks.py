"""The masks' examination: targets too many, in the wrong places, and never asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llm_lab.config import MaskingConfig
from llm_lab.train.doctor.data import examine_batches
from llm_lab.train.doctor.masks import examine_masks
from llm_lab.ward import DATASET, TrainingRun
from llm_lab.ward.data_bugs import OwnMasking
from tests.train.doctor.runs import SMALL, changed, names, small

WORDS = DATASET.tokenizer


def masked(rate, selection="bernoulli", scheme="pure", **options):
    masking = MaskingConfig(rate=rate, selection=selection, scheme=scheme)
    kind = type("Masked", (TrainingRun,), {"masking": masking})
    return kind(**{**SMALL, **options}).subject()


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5])
@pytest.mark.parametrize("selection", ["bernoulli", "exact"])
def test_sound_masks(rate, selection):
    assert examine_masks(masked(rate, selection)) == []
    assert examine_masks(masked(rate, selection, "80/10/10", batch_rows=2)) == []


def test_too_many_and_too_few():
    (finding,) = examine_masks(masked(0.85))
    assert finding.name == "too many targets" and finding.sentence.startswith("85% of the words")
    assert names(examine_masks(masked(0.01))) == ["too few targets"]


class OnePattern(OwnMasking):
    """The same places in each row of a batch, others in the next."""

    def hide(self, ids, generator):
        chosen = torch.zeros(ids.shape, dtype=torch.bool)
        chosen[:, 1 + 2 * int(ids.sum() % 3) :: 7] = True
        chosen &= (ids != 0) & (ids > 4)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen


class ForEver(OwnMasking):
    """One pattern of places, drawn once for all batches."""

    def hide(self, ids, generator):
        return super().hide(ids, torch.Generator().manual_seed(0))


class FrontOnly(OwnMasking):
    """Only the first places of a row can be chosen."""

    def hide(self, ids, generator):
        inputs, chosen = super().hide(ids, generator)
        chosen = chosen & (torch.arange(ids.shape[1]) < 6)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen


class NeverSome(OwnMasking):
    """Small ids are taken for special tokens."""

    def hide(self, ids, generator):
        _, chosen = super().hide(ids, generator)
        chosen = chosen & (ids > 60)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OnePattern, "rows share their masks"),
        (ForEver, "masks never change"),
        (FrontOnly, "targets in one half"),
        (NeverSome, "words never hidden"),
    ],
)
def test_sick_masks(kind, name):
    rows = {"ForEver": {"batch_rows": 8}}.get(kind.__name__, {"batch_rows": 32})
    assert names(examine_masks(kind(**{**SMALL, **rows}).subject())) == [name]


def first_dropped(step, batch):
    """A cap on the targets of a row, put upon the labels and not upon the inputs."""
    return replace(batch, positions=batch.positions[:, 1:], targets=batch.targets[:, 1:])


def twice(step, batch):
    return replace(batch, positions=batch.positions.repeat(1, 2), targets=batch.targets.repeat(1, 2))


def beside(step, batch):
    last = batch.inputs.shape[1] - 1
    return replace(batch, positions=(batch.positions + 1).clamp(max=last))


def in_padding(step, batch):
    return replace(batch, mask=batch.mask & (torch.arange(batch.mask.shape[1]) < 6))


def beyond(step, batch):
    return replace(batch, targets=batch.targets.where(batch.targets < 100, 193))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (first_dropped, "blanks without a target"),
        (twice, "places asked twice"),
        (beside, "targets beside the blanks"),
        (in_padding, "targets in the padding"),
        (beyond, "ids outside the vocabulary"),
    ],
)
def test_targets_in_wrong_places(change, name):
    assert name in names(examine_masks(changed(small(), change)))


def test_unknown_words_and_a_special_token_that_is_not_said_to_be_one():
    def foreign(token, some):
        return lambda step, b: replace(b, inputs=b.inputs.masked_fill((b.inputs > 4) & (b.inputs % some == 0), token))

    (finding,) = examine_masks(changed(small(), foreign(1, 3)))
    assert finding.name == "many unknown words" and "[UNK]" in finding.sentence
    everything = changed(replace(small(), unknown_id=None), foreign(1, 1))
    assert "special token 1" in {f.name: f.sentence for f in examine_masks(everything)}["many unknown words"]


def test_labels_copied_too_late_and_a_mask_token_of_its_own():
    late = changed(small(), lambda s, b: replace(b, targets=b.targets.where(b.targets < 0, WORDS.mask_id)))
    assert names(examine_batches(late)) == ["targets are [MASK]"]
    other = changed(small(), lambda s, b: replace(b, inputs=b.inputs.masked_fill(b.inputs == WORDS.mask_id, 77)))
    (finding,) = examine_batches(other)
    assert finding.name == "another mask token" and "id 77 stands where words are hidden" in finding.sentence
