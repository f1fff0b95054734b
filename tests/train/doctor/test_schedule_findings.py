"""The schedule's examination: sound shapes of every kind, and sick ones."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from llm_lab.train.doctor.schedule import examine_schedule
from llm_lab.train.schedule import learning_rate_factor
from tests.train.doctor.runs import names, small


def schedule_of(function, steps=100):
    return names(examine_schedule(replace(small(), schedule=function, steps=steps)))


def cosine(step):
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / 100)))


@pytest.mark.parametrize(
    "schedule",
    [
        cosine,
        lambda s: 1.0,
        lambda s: 0.95 ** (s / 10),
        lambda s: min(s / 50, 2 - s / 50) % 2,
        lambda s: 1 - s % 20 / 25,
        lambda s: min(1.0, (10 / (s + 1)) ** 0.5),
        lambda s: learning_rate_factor(s, 100, 0.1, 0.4),
        lambda s: max(0.0, 1 - s / 99),
        lambda s: max(0.0, min(s / 10, 1 - s / 100)),
    ],
)
def test_sound_schedules(schedule):
    assert schedule_of(schedule) == []


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("negative learning rate", lambda s: 1 - s / 100),
        ("negative learning rate", lambda s: 1 - s / 140),
        ("negative learning rate", lambda s: 1 - s / 50),
        ("schedule not a number", lambda s: math.nan if s == 60 else 1.0),
        ("learning rate zero", lambda s: 0.0),
        ("schedule ends early", lambda s: max(0.0, 1 - s / 90)),
        ("schedule ends early", lambda s: 0.9**s),
        ("schedule below its peak", lambda s: min(1.0, (s + 1) / 10_000)),
        ("schedule below its peak", lambda s: 0.1),
        ("schedule below its peak", lambda s: (s + 1) / 100),
        ("schedule below its peak", lambda s: min(1.0, s / 85)),
        ("schedule zigzags", lambda s: 1.0 if s % 2 else 0.5),
        ("schedule above its peak", lambda s: 1.1 if s == 50 else 0.5),
    ],
)
def test_sick_schedules(name, schedule):
    assert schedule_of(schedule) == [name]


def test_past_the_end_is_said_to_be_so():
    for end, words in ((100, "goes on past its end"), (50, "keep it at 0 or above")):
        (finding,) = examine_schedule(replace(small(), schedule=lambda s, end=end: 1 - s / end, steps=100))
        assert words in finding.sentence
    (finding,) = examine_schedule(replace(small(), schedule=lambda s: max(0.0, 1 - s / 90), steps=100))
    assert "for the last 10 of 100 steps" in finding.sentence
