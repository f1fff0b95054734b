"""The loop's examination: loops broken on purpose, written as one writes them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from llm_lab.train.doctor.blame import cosine, spanned
from llm_lab.train.doctor.steps import examine_steps
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL, names
from tests.train.doctor.test_untouched import equal, state_of


def examined(kind=TrainingRun, **options):
    return names(examine_steps(kind(**{**SMALL, **options}).subject()))


class Accumulated(TrainingRun):
    accumulate = 4


class Clears(TrainingRun):
    """Clears after the step instead of before it."""

    def update(self, step):
        record = super().update(step)
        super().clear()
        return record

    def clear(self):
        pass


@pytest.mark.parametrize("kind", [TrainingRun, Accumulated, Clears])
def test_sound_loops(kind):
    assert examined(kind) == []


def test_a_loop_is_not_touched_and_what_is_not_given_is_not_examined():
    subject = TrainingRun(**SMALL).subject()
    before = state_of(subject)
    assert examine_steps(subject) == [] and equal(before, state_of(subject))
    assert examine_steps(replace(subject, update=None)) == []


def test_half_precision_is_no_mistake():
    class Half(TrainingRun):
        def backward(self, batch):
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.loss_sum(self.model, batch) / max(1, batch.num_targets)
            loss.backward()
            return loss.item()

    assert examined(Half) == []


class Functional(TrainingRun):
    """Dropout that no module holds, so that no gradient comes twice."""

    def __init__(self, **options):
        super().__init__(**options)
        inner = self.model.encoder.embedding_norm.forward
        self.model.encoder.embedding_norm.forward = lambda x: nn.functional.dropout(inner(x), 0.3, self.model.training)


def test_dropout_that_cannot_be_switched_off_is_no_mistake():
    assert examined(Functional) == []


class MeanOfTwo(TrainingRun):
    def backward(self, batch):
        for part in batch.split(2):
            (self.loss_sum(self.model, part) / part.num_targets / 2).backward()
        return 0.0


class LastPart(TrainingRun):
    def backward(self, batch):
        part = batch.split(4)[-1]
        (self.loss_sum(self.model, part) / part.num_targets).backward()
        return 0.0


class Summed(TrainingRun):
    """The sum's gradient, not clipped."""

    def update(self, step):
        self.model.train()
        self.clear()
        self.loss_sum(self.model, self.batch(step)).backward()
        self.optimizers.set_factor(self.factor(step))
        for optimizer in self.optimizers:
            optimizer.step()


class EveryOther(TrainingRun):
    def update(self, step):
        return super().update(step) if step % 2 else None


class Frozen(TrainingRun):
    def update(self, step):
        before = [p.detach().clone() for p in self.model.parameters()]
        super().update(step)
        for p, old in zip(self.model.parameters(), before, strict=True):
            p.data.copy_(old)


class NeverFour(TrainingRun):
    """The scheduler runs four times as fast as the run says."""

    def subject(self):
        return replace(super().subject(), schedule=lambda step: TrainingRun.factor(self, step))

    def factor(self, step):
        return super().factor(4 * step)


class Constant(NeverFour):
    def factor(self, step):
        return 0.5


class NeverTrains(TrainingRun):
    def backward(self, batch):
        self.model.eval()
        return super().backward(batch)


class NeverCleared(TrainingRun):
    def clear(self):
        pass


class Changes(TrainingRun):
    """A loop that does `change` to its gradients before the optimizers step."""

    def backward(self, batch):
        loss = super().backward(batch)
        self.change()
        return loss

    def parameters(self):
        return list(self.model.parameters())


class Signed(Changes):
    def change(self):
        for p in self.parameters():
            p.grad.neg_()


class Cleared(Changes):
    def change(self):
        for p in self.parameters():
            p.grad.zero_()


class Decayed(Changes):
    def change(self):
        for p in self.parameters():
            p.grad.add_(p.detach(), alpha=0.1)


class OneByOne(Changes):
    def change(self):
        for p in self.parameters():
            p.grad.div_(p.grad.norm())


class Cut(Changes):
    def change(self):
        nn.utils.clip_grad_value_(self.parameters(), 1e-3)


class Lost(Changes):
    def change(self):
        self.model.encoder.embedding.weight.grad.zero_()


class Tiny(Changes):
    def change(self):
        nn.utils.clip_grad_norm_(self.parameters(), 1e-3)


class Noisy(Changes):
    def change(self):
        for p in self.parameters():
            p.grad.add_(torch.randn_like(p), alpha=0.01)


class Ahead(TrainingRun):
    def batch(self, step):
        return super().batch(step + 1)


class OneOfTwo(TrainingRun):
    """The second optimizer was added, and never steps."""

    def update(self, step):
        self.clear()
        self.backward(self.batch(step))
        self.optimizers.set_factor(self.factor(step))
        list(self.optimizers)[0].step()


class OneRate(TrainingRun):
    """The schedule moves the first optimizer's rate alone."""

    def __init__(self, **options):
        super().__init__(**options)
        last = list(self.optimizers)[-1]
        peaks = [group["lr"] for group in last.param_groups]

        def keep(optimizer, *_):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak

        last.register_step_pre_hook(keep)


class Squared(NeverFour):
    def factor(self, step):
        return TrainingRun.factor(self, step) ** 2


class Forgets(TrainingRun):
    def update(self, step):
        for optimizer in self.optimizers:
            optimizer.state.clear()
        return super().update(step)


class AfterEvaluation(TrainingRun):
    """Nobody calls train() again."""

    def update(self, step):
        self.clear()
        self.backward(self.batch(step))
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizers.set_factor(self.factor(step))
        for optimizer in self.optimizers:
            optimizer.step()


class InBits(TrainingRun):
    def update(self, step):
        record = super().update(step)
        return {**record, "loss": record["loss"] / math.log(2)}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (MeanOfTwo, "mean of means"),
        (LastPart, "gradient of one part"),
        (Signed, "gradient has the wrong sign"),
        (Cleared, "gradients cleared too early"),
        (Ahead, "another batch"),
        (Decayed, "weight decay in the gradient"),
        (OneByOne, "parameters clipped one by one"),
        (Cut, "gradient clipped by value"),
        (Lost, "gradient lost in the loop"),
        (Tiny, "gradient too small"),
        (Noisy, "wrong gradient"),
        (OneOfTwo, "steps miscounted"),
        (OneRate, "schedule not followed"),
        (Squared, "schedule not followed"),
        (Forgets, "optimizer forgets"),
        (AfterEvaluation, "training in evaluation mode"),
        (InBits, "reported loss"),
        (Summed, "gradient too large"),
        (EveryOther, "weights don't move"),
        (Frozen, "weights don't move"),
        (NeverFour, "schedule runs ahead"),
        (Constant, "schedule not followed"),
        (NeverTrains, "training in evaluation mode"),
        (NeverCleared, "gradients not cleared"),
    ],
)
def test_sick_loops(kind, name):
    assert examined(kind) == [name]


def test_steps_that_the_optimizer_takes_twice():
    class Twice(TrainingRun):
        def update(self, step):
            super().update(step)
            return super().update(step)

    run = Twice(**SMALL)
    (finding,) = examine_steps(run.subject())
    assert finding == ("steps miscounted", "4 calls of update made 8 steps of the optimizer.")


def test_the_hook_is_gone_after_an_error():
    run = TrainingRun(**SMALL)
    subject = replace(run.subject(), update=lambda step: 1 / 0)
    before = state_of(subject)
    with pytest.raises(ZeroDivisionError):
        examine_steps(subject)
    assert equal(before, state_of(subject))


def test_cosine_and_span_by_hand():
    x, y, z = torch.eye(3)
    assert cosine(x, x + y) == pytest.approx(math.sqrt(0.5)) and cosine(x, -3 * x) == pytest.approx(-1)
    assert spanned(2 * x - 5 * y, [x, y]) and not spanned(x + 0.2 * z, [x, y]) and spanned(x + 0.01 * z, [x, y])
