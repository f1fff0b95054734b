"""What each patient with a wrong loss counts, against the loss by the book; and the doctor's word for it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from llm_lab.train.doctor import examine
from llm_lab.ward import DATASET, PATIENTS, TrainingRun
from tests.train.doctor.runs import SMALL


@pytest.mark.parametrize("name", ["IgnoredWord", "ScalarMask", "MeanOfMeans"])
def test_the_doctor_names_it_and_nothing_else(name):
    findings = examine(PATIENTS[name].run(**SMALL).subject())
    assert [finding.name for finding in findings] == [PATIENTS[name].diagnosis]


@torch.no_grad()
def losses(model, batch):
    """-ln p of every target that counts, and the targets."""
    real = batch.targets != -100
    logits = model.eval()(batch.inputs, batch.mask, batch.positions)[real]
    return -logits.log_softmax(-1).gather(1, batch.targets[real][:, None])[:, 0], batch.targets[real]


def test_the_full_stop_counts_for_nothing():
    run = PATIENTS["IgnoredWord"].run(**SMALL)
    batch = run.stream.batch(0)
    nats, targets = losses(run.model, batch)
    is_stop = targets == DATASET.tokenizer.id_of(".")
    assert is_stop.any()
    torch.testing.assert_close(run.loss_sum(run.model, batch).detach(), nats[~is_stop].sum())


@torch.no_grad()
def test_the_filler_counts_as_a_word():
    run = PATIENTS["ScalarMask"].run(**SMALL)
    batch = run.stream.batch(0)
    logits = run.model.eval()(batch.inputs, batch.mask, batch.positions)
    every = -logits.log_softmax(-1).gather(-1, batch.targets.clamp(min=0)[..., None])
    torch.testing.assert_close(run.loss_sum(run.model, batch), every.mean() * batch.num_targets)
    assert not torch.isclose(run.loss_sum(run.model, batch), losses(run.model, batch)[0].sum())


def test_each_part_is_averaged_by_itself():
    run = PATIENTS["MeanOfMeans"].run(**SMALL)
    run.model.eval()
    batch = run.stream.batch(0)
    means = [losses(run.model, part)[0].mean() for part in batch.split(4)]
    assert run.backward(batch) == pytest.approx(float(sum(means) / 4), rel=1e-5)


def test_the_healthy_run_divides_once_by_all_targets():
    run = TrainingRun(**SMALL)
    run.accumulate = 4
    run.model.eval()
    batch = run.stream.batch(0)
    assert run.backward(batch) == pytest.approx(losses(run.model, batch)[0].mean().item(), rel=1e-5)
    parts = [p.grad.clone() for p in run.model.parameters()]
    run.clear()
    logits = run.model(batch.inputs, batch.mask, batch.positions)
    F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()).backward()
    for p, gradient in zip(run.model.parameters(), parts, strict=True):
        torch.testing.assert_close(p.grad, gradient, atol=1e-6, rtol=1e-4)
