"""The healthy run: it learns, repeats itself, and its held-out loss is the book's; every patient is a run."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from llm_lab.tasks.masked_language_model import score
from llm_lab.ward import DATASET, PATIENTS, TrainingRun
from llm_lab.ward.run import Patient, mean_loss
from tests.train.doctor.runs import SMALL


def test_it_learns_and_two_runs_are_one():
    first, second = (TrainingRun(**SMALL, steps=25).train() for _ in range(2))
    assert first == second and len(first) == 25
    assert first[0]["loss"] == pytest.approx(math.log(DATASET.tokenizer.vocabulary_size), abs=0.5)
    assert first[-1]["held_out_loss"] < first[0]["loss"] - 0.5
    assert TrainingRun(**SMALL, seed=1, steps=1).train() != first[:1]


def test_the_record_of_a_step():
    run = TrainingRun(**SMALL, steps=40)
    assert run.update(1) == {
        "step": 2,
        "loss": pytest.approx(5.2, abs=0.5),
        "gradient_norm": pytest.approx(2, abs=2),
        "factor": 0.5,
    }


def test_the_held_out_loss_is_that_of_the_package():
    run = TrainingRun(**SMALL)
    assert run.evaluate() == pytest.approx(score(run.model, run.held_out)["held_out_loss"], rel=1e-6)
    assert not run.model.training


def test_mean_loss_leaves_the_mode_and_builds_no_graph():
    run = TrainingRun(**SMALL)
    run.model.train()
    assert mean_loss(run.model, run.held_out) > 0 and run.model.training
    assert all(p.grad is None for p in run.model.parameters())


def test_a_loss_that_is_no_number_ends_the_run():
    run = TrainingRun(**SMALL, steps=9)
    torch.nn.init.constant_(run.model.head.bias, float("nan"))
    assert len(run.train()) == 1


def test_the_subject_is_the_run_itself():
    run = TrainingRun(**SMALL)
    subject = run.subject()
    assert subject.model is run.model and list(subject.optimizers) == list(run.optimizers)
    assert subject.schedule(0) == run.factor(0) and subject.stream is run.stream
    assert subject.stream_of is not None and TrainingRun(**{**SMALL, "batch_rows": 3}).subject().stream_of is None


def test_there_are_twenty_patients_and_each_fits_on_a_slide():
    assert len(PATIENTS) == len({patient.diagnosis for patient in PATIENTS.values()}) == 20
    for name, patient in PATIENTS.items():
        assert isinstance(patient, Patient) and patient.run.__name__ == name and patient.run.__doc__
        assert issubclass(patient.run, TrainingRun) and len(inspect.getsource(patient.run).splitlines()) <= 26
