"""Exercises of lesson 08, the Transformer encoder: what is looked at in a reader's encoder.

Any architecture passes that has the properties which the card names. They are tried one after the other, on weights
that are loud enough for every connection to show, and the first that fails ends the look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw
from llm_lab.checks.exercise import Exercise
from llm_lab.config import require
from llm_lab.model.attention import attention_batched

EXERCISES: tuple[Exercise, ...] = ()
Fact = tuple[str, Any, bool]  # in words, what was found, and whether that is as it should be
SAME = 1e-7  # in double precision


class Spy:
    """An attention function that keeps what it is asked, and whose answer can be changed.

    It also carries what a check needs and `MyEncoder` does not get: ids to encode, a dtype, and whether to learn.
    """

    def __init__(self, ids: Tensor, dtype: torch.dtype, learn: bool = False):
        self.ids, self.dtype, self.learn = ids, dtype, learn
        self.asked: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
        self.change: Callable[[Tensor, int], Tensor] = lambda found, number: found

    def __repr__(self) -> str:
        return "an attention function"

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """(B, H, T, D) -> (B, H, T, D), after a look at what is given. Raises ValueError for other shapes."""
        shapes = [tuple(x.shape) for x in (query, key, value)]
        require(all(len(shape) == 4 for shape in shapes), f"attention takes (B, H, T, D), and got {shapes[0]}")
        if mask is not None:
            pairs = (*shapes[0][:3], shapes[1][2])
            fits = all(m in (1, n) for m, n in zip(mask.shape[::-1], pairs[::-1], strict=False)) and mask.ndim <= 4
            sentence = f"attention takes a mask of bool that broadcasts to {pairs}, and got {kind_of(mask)}"
            require(fits and mask.dtype == torch.bool, sentence)
        self.asked.append((query, key, value, mask))
        return self.change(attention_batched(query, key, value, mask), len(self.asked))


@dataclass
class Plan:
    """What an encoder is built with."""

    vocabulary_size: int
    width: int
    num_layers: int
    num_heads: int
    feed_forward_width: int
    max_length: int
    attention: Spy

    def arguments(self, more_layers: int = 0) -> tuple[Any, ...]:
        """The arguments of `MyEncoder`."""
        layers = self.num_layers + more_layers
        sizes = self.vocabulary_size, self.width, layers, self.num_heads, self.feed_forward_width, self.max_length
        return *sizes, self.attention


def an_encoder(draw: Draw) -> tuple[Any, ...]:
    """The arguments of `MyEncoder`; the ids of a row are all different."""
    B, T = min(draw.B, 3), min(draw.T, draw.V - 2, 9)
    width, longest = draw.H * (draw.D + 4), T + draw.choice(0, 3, 9)
    taken = {draw.V, longest}
    hidden = next(F for F in range(2 * width + 1, 4 * width + 99, 2) if not {F, 2 * F} & taken)
    ids = torch.stack([torch.randperm(draw.V, generator=draw.chance)[:T] for _ in range(B)])
    ids = ids.T.contiguous().T if draw.strided else ids
    layers = 2 if _looked_into(ids, draw.dtype) and draw.seed // 4 % 3 != 1 else 1
    return Plan(draw.V, width, layers, draw.H, hidden, longest, Spy(ids, draw.dtype)).arguments()


def an_encoder_that_learns(draw: Draw) -> tuple[Any, ...]:
    """One that is large enough to learn a batch by heart."""
    return Plan(24, 32, 1, 4, 49, 8, Spy(draw.integers(1, 24, 8, 8), torch.float32, learn=True)).arguments()


def look_at_encoder(answer: Any, *given: Any) -> dict[str, Any]:
    """The properties of an encoder in words, up to the first that is not as it should be."""
    plan, facts = Plan(*given), {}
    ids, dtype = plan.attention.ids, plan.attention.dtype
    inside = [wiring, masks, places, residuals, slopes, bends]
    looks = (
        [kind, tables, form, *inside] if _looked_into(ids, dtype) else [kind, form] + [learns] * plan.attention.learn
    )
    model = answer(*plan.arguments())
    for look in looks:
        model = _loud(model) if look is wiring else model
        for words, found, good in look(answer, plan, model, ids, dtype):
            facts[words] = found
            if not good:
                return facts
    return facts


def _loud(model: nn.Module) -> nn.Module:
    """The model in double precision, with weights large enough for every connection to show."""
    chance = torch.Generator().manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=chance, dtype=torch.float64)
            parameter.copy_(drawn * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else parameter + 0.1 * drawn)
    return model


def _looked_into(ids: Tensor, dtype: torch.dtype) -> bool:
    """A quarter of the inputs: it takes time."""
    return dtype == torch.float64 and ids.is_contiguous()


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > SAME)


def kind(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """What it is."""
    yield "it is an nn.Module", isinstance(model, nn.Module), isinstance(model, nn.Module)
    table, wanted = getattr(model, "embedding", None), f"an nn.Embedding of {plan.vocabulary_size} x {plan.width}"
    found = f"an nn.Embedding of {table.num_embeddings} x {table.embedding_dim}" if type(table) is nn.Embedding else ""
    yield "self.embedding", found or kind_of(table), found == wanted


def form(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """What comes out of it."""
    before, mask = ids.clone(), torch.ones_like(ids, dtype=torch.bool)
    result = model.to(dtype).eval()(ids, mask)
    wanted = f"a tensor of {str(dtype).removeprefix('torch.')} with shape {(*ids.shape, plan.width)}"
    yield "the result", kind_of(result), kind_of(result) == wanted
    yield "the ids stay as they are", torch.equal(ids, before), torch.equal(ids, before)


def tables(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """Whether every layer brings tables of its own."""
    hidden = {plan.feed_forward_width, 2 * plan.feed_forward_width}
    used = any(hidden & set(parameter.shape) for parameter in model.parameters())
    grows = _count(answer(*plan.arguments(more_layers=1))) > _count(model)
    words = f"{'yes' if used else 'no'}; with one layer more, more parameters: {'yes' if grows else 'no'}"
    yield "the feed-forward is as wide as asked", words, used and grows


class _Runs:
    """Runs of a loud model."""

    def __init__(self, plan: Plan, model: nn.Module, ids: Tensor):
        self.plan, self.model, self.spy, self.ids = plan, model, plan.attention, ids
        self.all = torch.ones_like(ids, dtype=torch.bool)

    @torch.no_grad()
    def __call__(
        self, ids: Tensor, mask: Tensor | None = None, change: Callable[[Tensor, int], Tensor] | None = None
    ) -> Tensor:
        """The vectors of ids; `change` changes what attention answers."""
        self.spy.asked, self.spy.change = [], change or (lambda found, number: found)
        return self.model(ids, mask)

    def other(self, place: int) -> Tensor:
        """The ids with another word at one place."""
        ids = self.ids.clone()
        ids[:, place] = (ids[:, place] + 1) % self.plan.vocabulary_size
        return ids


def wiring(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """What attention is asked, and where its answers go."""
    run = _Runs(plan, model, ids)
    result = run(ids, run.all)
    asked, L = run.spy.asked, plan.num_layers
    yield "attention is asked", f"{len(asked)} times in {L} layers", len(asked) == L
    shape = (*ids.shape[:1], plan.num_heads, ids.shape[1], plan.width // plan.num_heads)
    shapes = {tuple(x.shape) for one in asked for x in one[:3]}
    yield "it gets tensors of shape", str(sorted(shapes))[1:-1], shapes == {shape}
    again = run(ids, run.all)
    yield "in evaluation it answers twice the same", not _differ(result, again), not _differ(result, again)
    if ids.shape[1] == 1 or plan.num_heads == 1:
        return
    before = run.spy.asked[0]
    run(run.other(0), run.all)
    names = [
        name
        for name, one, two in zip(("query", "key", "value"), before, run.spy.asked[0], strict=False)
        if one is not None and two is not None and _differ(one[:, -1, 0], two[:, -1, 0])
    ]
    words = "the last head's numbers of a token come from this token, in its"
    yield words, ", ".join(names) or "none", len(names) == 3

    def shift(found: Tensor, number: int) -> Tensor:
        found = found.clone()
        found[:, -1, 0] += float(number == L)
        return found

    reaches = _differ(run(ids, run.all, shift)[:, 0], result[:, 0])
    yield "what the last head finds for a token reaches this token", reaches, reaches


def masks(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """Who is seen by whom."""
    run, T = _Runs(plan, model, ids), ids.shape[1]
    result = run(ids)
    masked = run(ids, run.all)
    given = sum(mask is not None for *_, mask in run.spy.asked)
    yield "the mask reaches", f"{given} of {plan.num_layers} attentions", given == plan.num_layers
    yield "None is like a mask of True", not _differ(result, masked), not _differ(result, masked)
    if T == 1:
        return
    place, hidden = T // 2, run.all.clone()
    hidden[:, place] = False
    run(ids, hidden)
    forbidden = {_forbidden(mask, place, T) for *_, mask in run.spy.asked}
    yield "what the mask forbids is", " or ".join(sorted(forbidden)), forbidden == {"to look at padding"}
    rest = [t for t in range(T) if t != place]
    false = _differ(run(ids, hidden)[:, rest], run(run.other(place), hidden)[:, rest])
    true = _differ(masked[:, rest[0]], run(run.other(place), run.all)[:, rest[0]])
    right = _differ(masked[:, -1], run(run.other(0), run.all)[:, -1])
    words = f"a False place {_seen(false)}, a True place {_seen(true)} from the left and {_seen(right)} from the right"
    yield "in the eyes of the other tokens", words, not false and true and right
    short = _differ(run(ids[:, :-1]), run(ids, torch.arange(T).expand_as(ids) < T - 1)[:, :-1])
    yield "a row comes out the same with padding and without", not short, not short
    company = _differ(run(ids)[-1:], run(ids[-1:]))
    yield "a row comes out the same in any company", not company, not company


def _forbidden(mask: Tensor | None, padding: int, T: int) -> str:
    """What a mask for attention forbids, where one place of T is padding."""
    assert mask is not None  # seen before
    pairs = mask.expand(-1, -1, T, T)[0, 0] if mask.ndim == 4 else mask.expand(T, T)
    others = torch.arange(T) != padding
    if not pairs[others][:, others].all():
        return "to look at padding, upside down" if pairs[others][:, padding].all() else "more than to look at padding"
    return "that padding looks" if pairs[others][:, padding].any() else "to look at padding"


def _seen(seen: bool) -> str:
    return "is seen" if seen else "is not seen"


def places(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """Whether the order matters: the last two tokens are exchanged."""
    run, T = _Runs(plan, model, ids), ids.shape[1]
    if T > 1:
        order = [*range(T - 2), T - 1, T - 2]
        knows = _differ(run(ids[:, order])[:, order], run(ids))
        yield "the order of the tokens matters", knows, knows


def residuals(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """What a word was must get past each part."""
    run = _Runs(plan, model, ids)
    nothing = [run(row, run.all, lambda found, number: torch.zeros_like(found)) for row in (ids, run.other(0))]
    passes = _differ(nothing[0][:, 0], nothing[1][:, 0])
    yield "a word gets past an attention that finds nothing", passes, passes
    hidden, kept = {plan.feed_forward_width, 2 * plan.feed_forward_width}, []
    with torch.no_grad():
        for parameter in model.parameters():
            if hidden & set(parameter.shape) and parameter is not model.embedding.weight:
                kept.append((parameter, parameter.clone()))
                parameter.zero_()
        passes = _differ(run(ids)[:, 0], run(run.other(0))[:, 0])
        for parameter, values in kept:
            parameter.copy_(values)
    yield "a word gets past a feed-forward that makes nothing", passes, passes


def slopes(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """Whether all of it can learn."""
    plan.attention.change = lambda found, number: found
    result = model(ids, torch.ones_like(ids, dtype=torch.bool))
    if result.requires_grad:
        (result * torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)).sum().backward()
    reached = all(parameter.grad is not None for parameter in model.parameters())
    yield "slopes reach every parameter", reached, reached


def bends(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """Whether the feed-forward is more than a product of tables, in which a factor of one could go to the other."""
    run, hidden, seen = _Runs(plan, model, ids), {plan.feed_forward_width, 2 * plan.feed_forward_width}, []
    before, tables = run(ids), [p for p in model.parameters() if p is not model.embedding.weight]
    for factor in (-1.0, 2.0):
        with torch.no_grad():
            for table in tables:
                if hidden & set(table.shape):
                    table *= factor if table.shape[0] in hidden else 1 / factor
        seen.append(_differ(run(ids), before))
    yield "the feed-forward bends between its tables", any(seen), any(seen)


def learns(answer: Any, plan: Plan, model: Any, ids: Tensor, dtype: torch.dtype) -> Iterator[Fact]:
    """Whether it begins to learn a batch by heart: two hidden words in each row, a tied head, 20 steps."""
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[:, 2] = hidden[:, 5] = True
    model, losses = model.train(), []
    for _ in range(20):
        vectors = model(ids.masked_fill(hidden, 0), torch.ones_like(hidden))[hidden]
        loss = F.cross_entropy(F.linear(vectors, model.embedding.weight), ids[hidden])
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():  # steps of one size: `torch.optim` would take a second to import
            for parameter in model.parameters():
                parameter -= 4e-3 * parameter.grad.sign() if parameter.grad is not None else 0.0
    near = losses[0] < 2 * math.log(plan.vocabulary_size)
    yield "with a tied head its first loss is near ln V", near, near
    by_heart = min(losses) < 0.75 * losses[0]
    yield "it begins to learn a batch by heart", by_heart, by_heart
