"""What each patient with a wrong loop does wrong, and the doctor's word for it."""

from __future__ import annotations

import pytest
import torch

from llm_lab.train.doctor import examine
from llm_lab.train.doctor.learning import examine_learning
from llm_lab.train.schedule import learning_rate_factor
from llm_lab.ward import PATIENTS, TrainingRun
from tests.train.doctor.runs import SMALL

NAMES = "RateTooHigh NeverCleared SchedulePerPart PastTheEnd DropoutInEvaluation FreshEvaluationMasks".split()


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_names_it_and_nothing_else(name):
    findings = examine(PATIENTS[name].run(**SMALL).subject())
    assert [finding.name for finding in findings] == [PATIENTS[name].diagnosis]


def test_the_rate_is_thirty_times_the_healthy_one():
    assert PATIENTS["RateTooHigh"].run.learning_rate == 30 * TrainingRun.learning_rate


def test_gradients_pile_up():
    sick, well = (kind(**SMALL, dropout=0.0) for kind in (PATIENTS["NeverCleared"].run, TrainingRun))
    sums = 0
    for run in (sick, well):
        run.optimizers.set_factor(0.0)
        run.factor = lambda step: 0.0
        norms = [run.update(0)["gradient_norm"] for _ in range(2)]
        sums += 1
        assert (norms[1] == pytest.approx(norms[0], rel=1e-4)) == (run is well)
    assert sums == 2


def test_the_schedule_is_over_after_a_quarter_of_the_run():
    run = PATIENTS["SchedulePerPart"].run(**SMALL, steps=100)
    assert run.factor(24) > 0 and run.factor(25) == 0
    assert run.factor(3) == learning_rate_factor(12, 100, 0.1, 0.4)


def test_the_learning_rate_turns_negative():
    run = PATIENTS["PastTheEnd"].run(**SMALL, steps=100)
    assert run.factor(69) > 0 > run.factor(71)


def test_evaluation_keeps_dropout():
    sick, well = (kind(**SMALL, dropout=0.3) for kind in (TrainingRun, TrainingRun))
    sick.__class__ = PATIENTS["DropoutInEvaluation"].run
    sick.model.train()
    first = sick.evaluate()
    assert sick.model.training and sick.evaluate() != first
    assert well.evaluate() == well.evaluate() and not well.model.training


def test_evaluation_asks_other_questions_each_time():
    run = PATIENTS["FreshEvaluationMasks"].run(**SMALL)
    losses = [run.evaluate() for _ in range(3)]
    assert len(set(losses)) == 3 and run.evaluations == 3 and not run.model.training
    assert torch.tensor(losses).std() < 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_rate_is_too_high_for_a_run_of_the_lessons_size_too(seed):
    (finding,) = examine_learning(PATIENTS["RateTooHigh"].run(seed=seed).subject())
    assert finding.name == "learning rate too large"
