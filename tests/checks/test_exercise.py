"""What every exercise has: refused cards, and the words of verdicts."""

from dataclasses import replace

import pytest

from llm_lab.checks.exercise import ALWAYS, Exercise, Verdict, Wrong
from tests.checks.samples_of_exercises import CARD, SCALE


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": "4.scale"}, "is no id"),
        ({"id": "04.Scale"}, "is no id"),
        ({"kind": "guess"}, "of kind 'guess': choose one of write, mend"),
        ({"difficulty": 6}, "has difficulty 6"),
        ({"hints": ("one", "two")}, "has 2 hints"),
        ({"wrong": (SCALE.wrong[0], SCALE.wrong[0])}, "taken: adds"),
        ({"wrong": (Wrong("raises", "No.", "def f(): ..."),)}, "taken: raises"),
    ],
)
def test_a_card_that_can_not_be_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(SCALE, **change)


def test_texts_flow_however_they_are_broken_in_the_source():
    broken = replace(
        SCALE,
        first="one\n        two",
        hints=("a\n  b", "c", "d"),
        explanation="""
        One.

            x = 1
        """,
    )
    assert broken.first == "one two" and broken.hints[0] == "a b" and broken.explanation == "One.\n\n    x = 1"


def test_parts_of_an_id():
    assert (SCALE.lesson, SCALE.name, SCALE.variable) == ("04", "scale", "scale")


def test_a_verdict_is_silent_below_a_cell_and_short_in_a_shell():
    assert repr(Verdict(True, "fine")) == "<right>"
    assert repr(Verdict(False, "no", "adds")) == "<adds>" and repr(Verdict(False, "no")) == "<not right yet>"
    assert Verdict(True, "fine")._ipython_display_() is None


def test_the_kinds_must_say_how_they_judge():
    bare = Exercise(id="04.bare", kind="write", wrong=(), **CARD)
    for ask in (bare.right_answers, bare.wrong_answers, bare.shown, lambda: bare.judge(1)):
        with pytest.raises(NotImplementedError):
            ask()
    for name in ("stub_cell", "solution_cell"):
        with pytest.raises(NotImplementedError):
            getattr(bare, name)
    assert "begin." in bare.not_started().message and bare.not_started().mistake in ALWAYS
