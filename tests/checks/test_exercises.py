"""Every exercise of every lesson: right answers pass, each wrong one is named, stubs and nasty answers are survived."""

import re
import time
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import pytest
import torch

from llm_lab.checks import exercises, hint, registry, show_me
from llm_lab.checks.assembly import Assembly
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.design import Design
from llm_lab.checks.exercise import NOT_STARTED, Exercise
from llm_lab.checks.guard import kept
from llm_lab.checks.number import Number
from tests.checks.kept_parts import keep_parts
from tests.test_notebooks import prose_of

ALL = exercises()
CODE = [one for one in ALL if isinstance(one, Write) and not isinstance(one, Design)]
LIMIT = 5.0  # seconds of processor time of any check but a design's: a clock would measure the neighbours, too


def names(values):
    return [one.id if isinstance(one, Exercise) else str(one) for one in values]


def judged(exercise: Exercise, answer):
    """The verdict on an answer, and that it came in time. A design's run is short."""
    begin = time.thread_time()
    verdict = exercise.judge(answer)
    assert isinstance(exercise, Design) or time.thread_time() - begin < LIMIT
    return verdict


@pytest.fixture(scope="session")
def home_with_parts(tmp_path_factory):
    """A home in which the parts of an assembly are kept."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_LAB_HOME", str(home))
        keep_parts()
    return home


@pytest.fixture(autouse=True)
def short_runs(request, monkeypatch):
    """A design is measured with a run of seconds, and an assembly finds its parts."""
    monkeypatch.setenv("LLM_LAB_FAST", "1")
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if isinstance(parameters.get("exercise"), Assembly):
        monkeypatch.setenv("LLM_LAB_HOME", str(request.getfixturevalue("home_with_parts")))


# -- the catalogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", ALL, ids=names(ALL))
def test_right_answers_pass_in_any_style(exercise):
    answers = exercise.right_answers()
    assert len(answers) >= 2  # one more, written differently
    for name, answer in answers:
        verdict = judged(exercise, answer)
        assert verdict.passed and verdict.mistake is None, f"{name}: {verdict.message}"


@pytest.mark.parametrize("exercise", ALL, ids=names(ALL))
def test_every_wrong_answer_fails_with_its_own_name(exercise):
    assert len(exercise.wrong) >= 5
    for wrong, answer in exercise.wrong_answers():
        verdict = judged(exercise, answer)
        assert not verdict.passed and verdict.mistake == wrong.name, f"{wrong.name}: {verdict.message}"
        assert " ".join(wrong.reply.split()) in verdict.message


@pytest.mark.parametrize("exercise", CODE, ids=names(CODE))
def test_wrong_answers_are_wrong_and_not_broken(exercise):
    """A slip in a catalogue raises a NameError everywhere, and would be recognised as itself all the same."""
    for number, wrong in enumerate(exercise.wrong):
        errors = [exercise.known(number, case).error for case in range(len(exercise.cases))]
        raised = [error for error in errors if error is not None]
        slips = [error for error in raised if isinstance(error, NameError | AttributeError | SyntaxError)]
        assert not slips and len(raised) < len(errors), f"{wrong.name}: {raised[0]!r}"


@pytest.mark.parametrize("exercise", [one for one in ALL if isinstance(one, Choice)], ids=lambda one: one.id)
def test_every_choice_has_a_reply(exercise):
    assert {wrong.answer for wrong in exercise.wrong} == set(exercise.choices) - {exercise.right}


@pytest.mark.parametrize("exercise", [one for one in ALL if isinstance(one, Number)], ids=lambda one: one.id)
def test_numbers_that_nobody_foresaw(exercise):
    for answer in (exercise.truth + 1e6, exercise.truth - 1e6):
        verdict = judged(exercise, answer)
        assert not verdict.passed and verdict.mistake is None and exercise.look in verdict.message
    assert f"{exercise.truth:g}" not in verdict.message  # it does not tell


DESIGNS = [one for one in ALL if isinstance(one, Design) and not isinstance(one, Assembly)]  # that takes minutes


@pytest.mark.parametrize("exercise", DESIGNS, ids=lambda one: one.id)
def test_the_right_design_reaches_its_goal_in_a_full_run(exercise, monkeypatch):
    monkeypatch.delenv("LLM_LAB_FAST")
    verdict = exercise.judge(exercise.right_answers()[0][1])
    assert verdict.passed and verdict.score <= exercise.goal - 0.02 * abs(exercise.goal), verdict.message


# -- stubs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", ALL, ids=names(ALL))
def test_the_untouched_stub_is_answered_kindly(exercise):
    namespace = {"torch": torch}
    exec(f"from __future__ import annotations\nimport numpy as np\n{exercise.setup}\n{exercise.stub_cell}", namespace)
    verdict = judged(exercise, namespace[exercise.variable])
    assert not verdict.passed and verdict.mistake == NOT_STARTED
    assert " ".join(exercise.first.split()) in " ".join(verdict.message.split())


@pytest.mark.parametrize("exercise", CODE, ids=names(CODE))
@pytest.mark.parametrize("body", ["...", "pass", "'What it does.'", "return ...", "raise NotImplementedError('later')"])
def test_other_stubs_are_stubs_too(exercise, body):
    namespace = {}
    exec(f"def stub(*arguments):\n    {body}\n", namespace)
    assert judged(exercise, namespace["stub"]).mistake == NOT_STARTED


# -- nasty answers ----------------------------------------------------------------------------------------------------


def raises(*arguments):
    raise KeyError("no such thing")


def loops(*arguments):
    while True:
        pass


def returns_nothing(*arguments):
    for _ in arguments:
        continue


NASTY = {"raises": raises, "no end": loops, "returns nothing": returns_nothing}


@pytest.mark.parametrize("mistake", NASTY)
@pytest.mark.parametrize("exercise", CODE, ids=names(CODE))
def test_nasty_answers_are_survived(exercise, mistake):
    verdict = judged(replace(exercise, seconds=0.3) if mistake == "no end" else exercise, NASTY[mistake])
    assert not verdict.passed
    assert verdict.mistake == mistake
    if mistake == "raises":
        assert "KeyError" in verdict.message and "no such thing" in verdict.message
        assert 'raise KeyError("no such thing")' in verdict.message  # the reader's own line


@pytest.mark.parametrize("exercise", [one for one in CODE if not one.may_draw], ids=lambda one: one.id)
def test_an_answer_that_draws_from_the_global_generator_is_told_so(exercise):
    right = exercise.right_answers()[0][1]

    def answer(*arguments):
        torch.rand(1)
        return right(*arguments)

    before = torch.get_rng_state()
    verdict = judged(exercise, answer)
    assert verdict.mistake == "draws from the global generator"
    assert torch.equal(torch.get_rng_state(), before)  # the reader's generator is as it was


@pytest.mark.parametrize("exercise", [one for one in CODE if not one.may_change_inputs], ids=lambda one: one.id)
def test_an_answer_that_changes_its_input_is_told_so(exercise):
    right = exercise.right_answers()[0][1]
    if not isinstance(right, FunctionType):
        pytest.skip("a class: its calls belong to the probe")

    def answer(*arguments):
        result = kept(right(*arguments))  # it may be a view of the input
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                argument.zero_() if argument.any() else argument.fill_(1)
            elif isinstance(argument, list):
                argument.append(argument[-1])
        return result

    tensors = any(isinstance(argument, torch.Tensor | list) for argument in exercise.cases[0].arguments())
    verdict = judged(exercise, answer)
    assert not tensors or verdict.mistake == "changes its input", verdict.message


@pytest.mark.parametrize("form", ["shape", "dtype", "device", "type"])
@pytest.mark.parametrize("exercise", [one for one in CODE if one.probe is None], ids=lambda one: one.id)
def test_right_numbers_in_the_wrong_form_are_told_so(exercise, form):
    right = exercise.right_answers()[0][1]
    value = exercise.expected[0].value
    if not all(isinstance(part, torch.Tensor) for part in (value if isinstance(value, tuple) else [value])):
        pytest.skip("the result holds no tensor, or more than tensors")
    other = {
        "shape": lambda x: x[None],
        "dtype": lambda x: x.to(torch.float16 if x.is_floating_point() else torch.int32),
        "device": lambda x: x.to("meta"),
        "type": lambda x: x.tolist(),
    }[form]

    def answer(*arguments):
        result = right(*arguments)
        return tuple(map(other, result)) if isinstance(result, tuple) else other(result)

    verdict = judged(exercise, answer)
    assert verdict.mistake == f"wrong {form}", verdict.message


@pytest.mark.parametrize("exercise", CODE, ids=names(CODE))
def test_what_is_no_function_is_told_so(exercise):
    assert judged(exercise, torch.zeros(2)).mistake == "no function"
    assert judged(exercise, lambda one, two, three, four, five, six, seven, eight, nine: one).mistake in (
        "wrong arguments",
        "raises",
    )


# -- cards, hints and explanations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", ALL, ids=names(ALL))
def test_texts_are_calm_and_complete(exercise):
    texts = [exercise.title, exercise.task, exercise.why, exercise.first, exercise.explanation, *exercise.hints]
    texts += [wrong.reply for wrong in exercise.wrong]
    for text in texts:
        assert text.strip() and not re.search("[!\uff01]", prose_of(text)), text
        assert text.strip()[-1] in ".?:)`" or text == exercise.title, text
    assert len(exercise.stub_cell.splitlines()) <= 20 and len(set(exercise.hints)) == 3


@pytest.mark.parametrize("exercise", ALL, ids=names(ALL))
def test_hints_lead_to_the_explanation(exercise, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    show_me(exercise.id)
    assert "3 hints left" in capsys.readouterr().out
    for number in (1, 2, 3):
        hint(exercise.id)
        assert f"hint {number} of 3" in capsys.readouterr().out
    hint(exercise.id)
    assert f"show_me('{exercise.id}')" in capsys.readouterr().out
    show_me(exercise.id)
    shown = capsys.readouterr().out
    assert exercise.shown() in shown and " ".join(exercise.explanation.split())[:60] in " ".join(shown.split())


def test_lessons_climb():
    assert len({one.id for one in ALL}) == len(ALL)
    for lesson in registry.lessons():
        found = exercises(lesson)
        assert len(found) >= 5 and found[0].minutes <= 3 and 25 <= found[-1].minutes <= 45
        assert {"write", "predict"} <= {one.kind for one in found}, lesson
        assert registry.introduction(lesson).startswith(f"# {lesson} - ")


def test_mend_hands_out_code_that_runs():
    for exercise in CODE:
        if isinstance(exercise, Mend):
            assert "NotImplementedError" not in exercise.stub_cell


def test_no_solution_is_written_twice():
    """A file of solutions holds right answers and what they use, and nothing else."""
    folder = Path(registry.__file__).parents[2] / "exercises" / "solutions"
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        named = {name for one in exercises(path.name[:2]) if isinstance(one, Write) for name in one.right}
        written = set(re.findall(r"^(?:def|class) (\w+)", text, flags=re.MULTILINE))
        idle = [name for name in written - named if len(re.findall(rf"\b{name}\b", text)) < 2]
        assert not idle, f"{path.name}: {', '.join(idle)} belong to no exercise"
