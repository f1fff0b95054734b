"""The batches' examination: against batches broken on purpose, and against the laws of chance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm_lab.config import MaskingConfig
from llm_lab.train.doctor.data import BY_CHANCE, MIXED_TARGETS, _is_mixture, examine_batches, surprise
from llm_lab.ward import TrainingRun
from llm_lab.ward.run import StreamOf
from tests.train.doctor.runs import SMALL, changed, names, small


class Mixed(TrainingRun):
    masking = MaskingConfig(rate=0.3, scheme="80/10/10", selection="bernoulli")


def test_surprise_by_hand():
    assert surprise([81, 10, 9], [0.8, 0.1, 0.1]) == pytest.approx(1 / 80 + 0 + 1 / 10)
    assert surprise([8, 1, 1], [0.8, 0.1, 0.1]) == pytest.approx(0)


@pytest.mark.parametrize("n", [1000, 60_000])
def test_chance_exceeds_a_surprise_of_x_with_exp_minus_half_x(n):
    draws = np.random.default_rng(0).multinomial(n, [0.8, 0.1, 0.1], size=40_000)
    surprises = surprise(draws.T, [0.8, 0.1, 0.1])
    for share in (0.1, 0.01, 0.001):
        expected = share * len(draws)
        assert abs((surprises > -2 * math.log(share)).sum() - expected) < 4 * expected**0.5 + 0.03 * expected
    assert (surprises > -2 * math.log(BY_CHANCE)).sum() <= 1  # 0.04 are expected; 1,000 draws are not quite normal


def test_81_10_9_is_told_from_80_10_10_with_the_targets_that_are_drawn():
    draw, subject = np.random.default_rng(0), small()
    wrong = draw.multinomial(MIXED_TARGETS, [0.81, 0.1, 0.09], size=1000)
    assert np.mean(_is_mixture(subject, wrong.T)) < 0.005
    words = subject.vocabulary_size - len(subject.special_ids)
    right = draw.multinomial(MIXED_TARGETS, [0.8, 0.1 - 0.1 / words, 0.1 + 0.1 / words], size=1000)
    assert np.all(_is_mixture(subject, right.T))


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_mixture_is_not_called_wrong(seed):
    assert examine_batches(Mixed(**{**SMALL, "batch_rows": 32}, seed=seed).subject()) == []


def test_a_small_sample_is_not_judged():
    # 40 rows with the same masks for ever: 8 of 10 kept would be a wrong mixture, if it were more than a few draws.
    plain = Mixed(**{**SMALL, "batch_rows": 4}).subject()
    static = replace(plain, stream=StreamOf(lambda step: plain.stream.batch(step % 10)))

    def other_words(step, batch):
        return replace(batch, inputs=batch.inputs.masked_fill(batch.inputs == plain.mask_id, 20 + step % 2))

    assert names(examine_batches(changed(static, other_words))) == []
    assert names(examine_batches(changed(plain, other_words))) == ["mixture"]


def test_static_masks_of_a_small_corpus_are_counted_once():
    """3,000 targets that chance made a little odd, seen twenty times: still only a little odd."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(10, 160, (20, 10, 20), generator=draw)
    kind = torch.rand(20, 10, 20, generator=draw)
    kind[:, :, :1] = 0.95  # 5% kept in excess: X² of about 12 for the true count, 28 from three times as many
    shown = torch.where(kind < 0.83, 4, torch.where(kind < 0.915, 161, words))
    inputs = torch.cat([torch.full((20, 10, 1), 2), shown, torch.full((20, 10, 1), 3)], dim=2)
    positions = torch.arange(1, 21).expand(10, 20)
    plain = small()
    from llm_lab.text.batches import Batch

    mask_id = plain.mask_id
    stream = StreamOf(
        lambda step: Batch(inputs[step % 20].masked_fill(inputs[step % 20] == 4, mask_id), positions, words[step % 20])
    )
    counts = [int((shown == 4).sum()), int((shown == 161).sum()), int((shown == words).sum())]
    assert not _is_mixture(plain, [20 * count for count in counts])
    assert _is_mixture(plain, counts) == (examine_batches(replace(plain, stream=stream)) == [])


def test_padding_and_its_mask():
    subject = small()
    assert names(examine_batches(changed(subject, lambda s, b: replace(b, mask=None)))) == ["padding without a mask"]
    upside_down = changed(subject, lambda s, b: replace(b, mask=~b.mask))
    assert names(examine_batches(upside_down)) == ["mask upside down"]


def test_a_batch_that_hides_nothing_is_named_with_its_number():
    def empty(step, batch):
        return replace(batch, targets=torch.full_like(batch.targets, -100)) if step in (7, 8) else batch

    run = TrainingRun(**SMALL)
    harmless = changed(run.subject(), empty)
    run.stream = harmless.stream
    assert examine_batches(harmless) == []  # the sum of nothing, divided by max(1, 0)
    (finding,) = examine_batches(replace(harmless, update=None))
    assert finding.name == "batch without a target" and finding.sentence.startswith("batch 7 hides nothing")
    run.backward = lambda batch: (run.loss_sum(run.model, batch) / batch.num_targets).backward() or 0.0
    assert examine_batches(harmless) == [finding]


def test_an_answer_that_stands_in_the_input():
    def visible(step, batch):
        ids, real = batch.inputs.clone(), batch.targets != -100
        ids[real.nonzero()[:, 0], batch.positions[real]] = batch.targets[real]
        return replace(batch, inputs=ids)

    (finding,) = examine_batches(changed(small(), visible))
    assert finding == (
        "answer visible",
        "100% of the targets stand in the input unhidden: hide them, or set their labels to -100.",
    )


def test_the_share_of_special_targets_is_said():
    def first_is_special(step, batch):
        first = (batch.targets != -100) & (torch.arange(batch.targets.shape[1]) == 0)
        return replace(batch, targets=batch.targets.masked_fill(first, 2))

    (finding,) = examine_batches(changed(small(), first_is_special))
    subject = small()
    batches = [first_is_special(s, subject.stream.batch(s)) for s in range(60)]
    share = sum(int((b.targets == 2).sum()) for b in batches) / sum(b.num_targets for b in batches)
    assert finding.name == "special tokens hidden"
    assert abs(int(finding.sentence.split("%")[0]) / 100 - share) < 0.03


def test_pure_masks_need_few_batches_and_a_mixture_many():
    for kind, most in ((TrainingRun, 201), (Mixed, 601)):
        subject = kind(**SMALL).subject()
        asked = []
        examine_batches(changed(subject, lambda step, batch, asked=asked: asked.append(step) or batch))
        assert asked == list(range(len(asked))) and 100 < len(asked) < most
