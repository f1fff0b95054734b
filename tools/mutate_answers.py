"""Try the checks on answers that nobody has written: right answers with one small change each.

    python tools/mutate_answers.py            every lesson
    python tools/mutate_answers.py 04         one lesson
    python tools/mutate_answers.py 04 --equal     and the changes that change nothing, to be read

Each right answer of a write or mend exercise is changed at one place of its syntax tree: an operator, a comparison, a
constant, an axis, a sign, a call or a statement left out. A mutant counts when its result differs from that of the very
answer that it was made of, on 200 random inputs that no check uses; the check must reject it. Those that it accepts are
listed. Where properties are compared, a mutant differs when one of them does: any architecture is a right encoder.
"""

import argparse
import ast
import copy
import difflib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llm_lab.checks import solutions
from llm_lab.checks.code import Write, differs
from llm_lab.checks.deck import fresh_cases
from llm_lab.checks.design import Design
from llm_lab.checks.guard import Outcome, generators_kept
from llm_lab.checks.registry import exercises

WANTED = 0.97  # share of the mutants that differ which must be rejected
INPUTS = 200  # that no check uses, to tell whether a mutant differs
SECONDS = 20.0  # for one input; slow is not different
RARE = 50  # where an answer draws its weights, a property may not show on one input in so many, with any right answer

OPERATORS: dict[type, list[type]] = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div, ast.Add], ast.Div: [ast.Mult], ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult], ast.Pow: [ast.Mult], ast.MatMult: [ast.Add], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
    ast.BitXor: [ast.BitAnd], ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In],  # codespell:ignore
    ast.And: [ast.Or], ast.Or: [ast.And], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
}  # fmt: skip
METHODS = {
    "min": ["max"], "max": ["min"], "sum": ["mean"], "mean": ["sum"], "floor": ["ceil"], "ceil": ["floor"],
    "round": ["floor"], "argsort": ["sort"], "argmax": ["argmin"], "argmin": ["argmax"], "any": ["all"], "all": ["any"],
    "ones_like": ["zeros_like"], "zeros_like": ["ones_like"], "triu": ["tril"], "tril": ["triu"], "sin": ["cos"],
    "cos": ["sin"], "exp": ["log"], "log": ["exp"], "sqrt": ["square"], "softmax": ["log_softmax"],
}  # fmt: skip


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Other nodes that could stand in the place of one."""
    if isinstance(node, ast.BinOp):
        yield from (ast.BinOp(node.left, other(), node.right) for other in OPERATORS.get(type(node.op), []))
        yield from (node.left, node.right)
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult | ast.Pow):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (
            ast.Compare(node.left, [other()], node.comparators) for other in OPERATORS.get(type(node.ops[0]), [])
        )
    elif isinstance(node, ast.BoolOp):
        yield from (ast.BoolOp(other(), node.values) for other in OPERATORS[type(node.op)])
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _other_constants(node.value))
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
        yield ast.Tuple(node.elts[::-1], node.ctx)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value


def _other_constants(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, -value] if value else [1, -1]
    return [value * 2, value + 0.1, -value] if isinstance(value, float) else []


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    """A call with two arguments exchanged, one left out, another function, or not made at all."""
    name = node.func
    if isinstance(name, ast.Attribute):
        yield name.value  # `x.clamp(min=1)` -> `x`
        yield from (_renamed(node, ast.Attribute(name.value, other, name.ctx)) for other in METHODS.get(name.attr, []))
    elif isinstance(name, ast.Name):
        yield from (_renamed(node, ast.Name(other, name.ctx)) for other in METHODS.get(name.id, []))
    yield from (argument for argument in node.args if not isinstance(argument, ast.Starred))
    if len(node.args) >= 2:
        yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for i in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])


def _renamed(node: ast.Call, function: ast.expr) -> ast.Call:
    return ast.Call(function, node.args, node.keywords)


def mutants(source: str) -> Iterator[str]:
    """Every source that differs from the given one by one change, each once."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    body = [node for part in tree.body if isinstance(part, ast.FunctionDef | ast.ClassDef) for node in part.body]
    for node in [found for part in body for found in ast.walk(part)]:
        for changed in [*_replaced(tree, node), *_dropped(tree, node)]:
            if changed not in seen:
                seen.add(changed)
                yield changed


def _replaced(tree: ast.Module, node: ast.AST) -> Iterator[str]:
    """The tree with each variant of one node in its place."""
    number = [id(one) for one in ast.walk(tree)].index(id(node))
    for i in range(sum(1 for _ in variants(node))):
        other = copy.deepcopy(tree)
        place = list(ast.walk(other))[number]
        yield _text(_Replace(place, list(variants(place))[i]).visit(other))


def _dropped(tree: ast.Module, node: ast.AST) -> Iterator[str]:
    """The tree without one statement."""
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.If | ast.For) or _is_text(node):
        return
    number = [id(one) for one in ast.walk(tree)].index(id(node))
    other = copy.deepcopy(tree)
    yield _text(_Replace(list(ast.walk(other))[number], ast.Pass()).visit(other))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)  # a docstring


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def _text(tree: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(tree))


# ----------------------------------------------------------------------------------------------------------- trying


@contextmanager
def little_memory(gigabytes: float = 2.0) -> Iterator[None]:
    """Let a mutant that asks for a huge array fail, where the system can do so (Linux)."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(pages.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + int(gigabytes * 2**30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@dataclass
class Count:
    """What became of the mutants of one right answer."""

    name: str
    made: int = 0
    rejected: int = 0
    alike: list[str] = field(default_factory=list)  # no difference on any input
    survivors: list[str] = field(default_factory=list)

    @property
    def equal(self) -> int:
        """How many mutants do the same as the answer."""
        return len(self.alike)

    @property
    def share(self) -> float:
        """The share of the mutants that differ which the check rejected."""
        return self.rejected / max(1, self.made - self.equal)


class Trial:
    """Tells whether a mutant differs from the answer that it was made of, on inputs that no check uses."""

    def __init__(self, exercise: Write, inputs: int = INPUTS):
        self.exercise = exercise
        self.cases = fresh_cases(exercise.inputs, exercise.more, inputs)
        self.right = dict(exercise.right_answers())
        self.luck = max(1, inputs // RARE) if exercise.may_draw else 0
        self.expected: dict[tuple[str, int], Outcome] = {}

    def is_equal(self, mutant: Any, name: str) -> bool:
        """No difference from the right answer of that name on any of the inputs, or on so few that it may be chance."""
        apart = (number for number in range(len(self.cases)) if self._apart(mutant, name, number))
        return next(islice(apart, self.luck, None), None) is None

    def _apart(self, mutant: Any, name: str, number: int) -> bool:
        case = self.cases[number]
        if (name, number) not in self.expected:
            self.expected[name, number] = self.exercise.observe(self.right[name], case, SECONDS)
        outcome, expected = self.exercise.observe(mutant, case, SECONDS), self.expected[name, number]
        spoils = outcome.spoiled or outcome.drew
        return spoils or outcome.timed_out or differs(expected, outcome, self.exercise.tolerance) is not None


def is_rejected(exercise: Write, mutant: Any) -> bool:
    """Tell whether the check rejects a mutant. Three of its inputs are tried first: mostly one is enough, and quicker
    than a verdict, which also seeks a name for the mistake.
    """
    for number in (len(exercise.cases) // 2, -1, 0):
        case, expected = exercise.cases[number], exercise.expected[number]
        outcome = exercise.observe(mutant, case, max(exercise.seconds, 20 * expected.seconds))
        if outcome.timed_out or differs(expected, outcome, exercise.tolerance) is not None:
            return True
    return not exercise.judge(mutant).passed


def try_answer(exercise: Write, trial: Trial, name: str, sample: int | None = None) -> Count:
    """Mutate one right answer, all mutants or a sample of them."""
    with generators_kept(), little_memory():
        return _try_answer(exercise, trial, name, sample)


def _try_answer(exercise: Write, trial: Trial, name: str, sample: int | None) -> Count:
    count = Count(f"{exercise.id} {name.rpartition('.')[2]}")
    slow = 5 * sum(one.seconds for one in exercise.expected)  # other work may share the processor
    patient = replace(exercise, seconds=max(exercise.seconds, slow))
    every = list(mutants(solutions.source_of(exercise.lesson, name)))
    if sample is not None and len(every) > sample:
        every = random.Random(0).sample(every, sample)
    for source in every:
        try:
            mutant = solutions.build(source, exercise.lesson, name, f"mutant of {name}")
        except Exception:  # it does not even compile, or fails when it is defined
            continue
        count.made += 1
        if is_rejected(patient, mutant):
            count.rejected += 1
        elif trial.is_equal(mutant, name):
            count.alike.append(source)
        else:
            count.survivors.append(source)
    return count


def try_exercise(exercise: Write, sample: int | None = None, inputs: int = INPUTS) -> list[Count]:
    """Mutate every right answer of an exercise."""
    trial = Trial(exercise, inputs)
    return [try_answer(exercise, trial, name, sample) for name in exercise.right]


def _changes(exercise: Write, count: Count) -> list[str]:
    """What each mutant that does the same has in place of which line of the answer."""
    name = next(name for name in exercise.right if name.rpartition(".")[2] == count.name.split()[1])
    before = ast.unparse(ast.parse(solutions.source_of(exercise.lesson, name))).splitlines()
    changes = []
    for source in count.alike:
        lines = [line for line in difflib.ndiff(before, source.splitlines()) if line[0] in "-+"]
        changes.append(" => ".join(" ".join(x[2:].strip() for x in lines if x[0] == mark) for mark in "-+"))
    return changes


def main() -> int:
    """Print one line for each right answer, and the survivors; return 1 when too many were accepted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="lessons or exercises, such as 04 or 04.mixture; all without a name")
    parser.add_argument("--sample", type=int, help="try only so many mutants of each answer")
    parser.add_argument("--equal", action="store_true", help="show the mutants that do the same as the answer, too")
    options = parser.parse_args()
    chosen = [one for one in exercises() if not options.which or {one.id, one.lesson} & set(options.which)]
    counts = []
    for exercise in chosen:
        if isinstance(exercise, Write) and not isinstance(exercise, Design):
            for count in try_exercise(exercise, options.sample):
                counts.append(count)
                kept = f"{count.equal:3} equal, {count.rejected:3} rejected, {len(count.survivors)} survive"
                print(f"{count.name:48} {count.made:3} mutants: {kept}", flush=True)
                print("".join(f"  equal: {line}\n" for line in _changes(exercise, count) if options.equal), end="")
    rejected, differing = (sum(n) for n in zip(*[(c.rejected, c.made - c.equal) for c in counts], strict=True))
    print(f"rejected {rejected} of {differing} mutants that differ: {rejected / max(1, differing):.1%}")
    for count in counts:
        for source in count.survivors:
            print(f"\n-- survivor of {count.name}\n{source}")
    return 0 if rejected >= WANTED * differing else 1


if __name__ == "__main__":
    sys.exit(main())
