"""What each patient with wrong batches does wrong, counted in its batches; and the doctor's word for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_lab.train.doctor import examine
from llm_lab.ward import DATASET, PATIENTS
from llm_lab.ward.data_bugs import OwnMasking
from tests.train.doctor.runs import SMALL

WORDS = DATASET.tokenizer
NAMES = "SpecialsHidden SpecialReplacements TwoDraws SharedMasks GlobalGenerator ResumeRepeats NoTargets".split()


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_names_it_and_nothing_else(name):
    rows = {"TwoDraws": 32}.get(name, 8)  # 81 is told from 80 by many targets only
    findings = examine(PATIENTS[name].run(**{**SMALL, "batch_rows": rows}).subject())
    assert [finding.name for finding in findings] == [PATIENTS[name].diagnosis]


def shown_and_hidden(run, batches):
    """What stands in the input at the targets, and what is hidden there."""
    pairs = []
    for batch in map(run.stream.batch, range(batches)):
        real = batch.targets != -100
        pairs.append((batch.inputs.gather(1, batch.positions)[real], batch.targets[real]))
    return (torch.cat(part) for part in zip(*pairs, strict=True))


def test_own_masking_hides_words_alone_at_the_rate_and_shows_the_rest_as_it_is():
    run = OwnMasking(batch_rows=32)
    shown, hidden = shown_and_hidden(run, 50)
    assert (shown == WORDS.mask_id).all() and not torch.isin(hidden, torch.tensor(WORDS.special_ids)).any()
    words = sum(int((~torch.isin(run.stream.batch(s).inputs, torch.tensor((0, 2, 3)))).sum()) for s in range(50))
    assert abs(len(hidden) / words - 0.3) < 4 * (0.3 * 0.7 / words) ** 0.5


def test_own_masking_reads_the_rows_of_the_plain_stream():
    batch, plain = OwnMasking(batch_rows=8).stream.batch(3), DATASET.stream(OwnMasking.masking, 8, 0)
    ids = batch.inputs.clone()
    real = batch.targets != -100
    ids[real.nonzero()[:, 0], batch.positions[real]] = batch.targets[real]
    assert (ids.numpy() == plain.ids_of(plain.rows_of(3)[1])).all()


def test_two_draws_give_81_10_and_9_percent():
    shown, hidden = shown_and_hidden(PATIENTS["TwoDraws"].run(batch_rows=64), 150)
    n, vocabulary = len(shown), WORDS.vocabulary_size
    is_mask, is_kept = shown == WORDS.mask_id, shown == hidden
    for seen, share in ((is_mask, 0.81), (is_kept, 0.09 + 0.1 / vocabulary), (~is_mask & ~is_kept, 0.1)):
        assert abs(seen.double().mean() - share) < 4 * (share * (1 - share) / n) ** 0.5
    assert not torch.isin(shown[~is_mask], torch.tensor(WORDS.special_ids)).any()


def test_special_tokens_are_among_the_replacements_and_among_the_hidden():
    special = torch.tensor(WORDS.special_ids)
    shown, hidden = shown_and_hidden(PATIENTS["SpecialReplacements"].run(batch_rows=64), 30)
    other = shown[(shown != WORDS.mask_id) & (shown != hidden)]
    assert torch.isin(other, special).any() and not torch.isin(hidden, special).any()
    shown, hidden = shown_and_hidden(PATIENTS["SpecialsHidden"].run(batch_rows=64), 10)
    assert torch.isin(hidden, special).any() and not (hidden == WORDS.pad_id).any()


def test_the_processes_share_their_masks_and_not_their_rows():
    run = PATIENTS["SharedMasks"].run(batch_rows=8)
    one, other = (run.stream_of(rank, 2).batch(2) for rank in (0, 1))
    assert not torch.equal(one.inputs, other.inputs)
    words = one.mask & other.mask & (one.inputs != WORDS.sep_id) & (other.inputs != WORDS.sep_id)
    hidden = [(batch.inputs == WORDS.mask_id)[words] for batch in (one, other)]
    assert hidden[0].any() and torch.equal(*hidden)


def test_the_global_generator_is_moved_on_by_everyone():
    run = PATIENTS["GlobalGenerator"].run(batch_rows=8)
    np.random.seed(0)
    first = run.stream.batch(0)
    np.random.seed(0)
    assert torch.equal(first.inputs, run.stream.batch(0).inputs)
    assert not torch.equal(first.inputs, run.stream.batch(0).inputs)


def test_a_restart_brings_the_first_batches_again():
    run = PATIENTS["ResumeRepeats"].run(batch_rows=4)
    seen = [run.batch(step).inputs for step in range(21)]
    assert all(torch.equal(seen[step], run.stream.batch(step % 10).inputs) for step in range(21))
    assert not torch.equal(seen[1], seen[2])


def test_a_batch_without_a_target_has_no_loss():
    run = PATIENTS["NoTargets"].run(width=16, num_layers=1)
    empty = next(step for step in range(200) if run.stream.batch(step).num_targets == 0)
    assert not np.isfinite(run.update(empty)["loss"])
    assert np.isfinite(PATIENTS["NoTargets"].run(width=16, num_layers=1).update(empty + 1)["loss"])
