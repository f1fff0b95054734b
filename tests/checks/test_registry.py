"""All exercises: found by lesson and by id, and a slip in an id is answered with the nearest."""

import pytest

from llm_lab.checks.registry import exercises, find, introduction, lessons


def test_exercises_of_a_lesson_climb():
    found = exercises("04")
    assert [one.minutes for one in found] == sorted(one.minutes for one in found) and len(found) >= 5
    assert set(found) <= set(exercises()) and "04" in lessons() and introduction("04").startswith("# 04")


def test_an_exercise_lists_what_the_contract_says():
    one = find("04.exact_counts")
    assert (one.id, one.kind, one.difficulty, one.minutes) == ("04.exact_counts", "write", 3, 12)
    assert one.title and len(one.hints) == 3 and one.right_answers() and one.wrong_answers()


@pytest.mark.parametrize(
    ("id", "sentence"),
    [
        ("04.exact_count", "near are 04.exact_counts"),
        ("99.exact_counts", "near are 04.exact_counts"),
        ("x", "lists all"),
    ],
)
def test_a_slip_is_answered(id, sentence):
    with pytest.raises(ValueError, match=sentence):
        find(id)
