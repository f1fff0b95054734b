"""What the examinations share, against PyTorch's own numbers and against numbers by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llm_lab.train.doctor import subject as parts
from tests.train.doctor.runs import batch_of, changed, small


def test_is_target_leaves_out_the_filler():
    assert parts.is_target(batch_of([[2, 4]], [[1, 0]], [[7, -100]])).tolist() == [[True, False]]


def test_the_first_batch_is_the_first_that_hides_a_word():
    subject = small()
    empty = lambda step, b: type(b)(b.inputs, b.positions, torch.full_like(b.targets, -100), b.mask)  # noqa: E731
    late = changed(subject, lambda step, b: empty(step, b) if step < 3 else b)
    assert torch.equal(parts.first_batch(late).inputs, subject.stream.batch(3).inputs)
    with pytest.raises(ValueError, match="hide no word at all"):
        parts.first_batch(changed(subject, empty))


def test_the_reference_is_cross_entropys_sum_and_the_packages_loss():
    subject = small()
    model, batch = subject.model.eval(), subject.stream.batch(0)
    logits = parts.logits_of(model, batch)
    assert logits.shape == (*batch.targets.shape, subject.vocabulary_size)
    by_hand = -sum(
        logits[b, k].log_softmax(-1)[t]
        for b, row in enumerate(batch.targets.tolist())
        for k, t in enumerate(row)
        if t >= 0
    )
    torch.testing.assert_close(parts.reference_sum(model, batch), by_hand)
    torch.testing.assert_close(parts.reference_sum(model, batch), subject.loss_sum(model, batch))


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_backward_gives_the_gradient_of_the_mean_and_forgets_older_ones():
    subject = small(dropout=0.0)
    model, batch = subject.model, subject.stream.batch(0)
    logits = model(batch.inputs, batch.mask, batch.positions)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    loss.backward()
    expected = gradients(model)
    for _ in range(2):
        assert parts.backward(model, batch) == pytest.approx(loss.item())
        torch.testing.assert_close(gradients(model), expected, atol=1e-6, rtol=1e-4)


def test_backward_in_parts_is_the_mean_of_their_means():
    subject = small(dropout=0.0)
    model, batch = subject.model, subject.stream.batch(0)
    each = [(parts.backward(model, part), gradients(model)) for part in batch.split(4)]
    assert parts.backward(model, batch, 4) == pytest.approx(sum(loss for loss, _ in each) / 4)
    torch.testing.assert_close(gradients(model), sum(g for _, g in each) / 4, atol=1e-6, rtol=1e-4)
    assert parts.backward(model, batch) != pytest.approx(sum(loss for loss, _ in each) / 4, rel=1e-6)


def test_the_peak_is_the_rate_or_what_a_scheduler_noted():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    assert parts.peak_of(optimizer.param_groups[0]) == 0.5
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05) and parts.peak_of(optimizer.param_groups[0]) == 0.5


class Dropping(nn.Module):
    """One of each module that drops, and some that don't."""

    def __init__(self):
        super().__init__()
        self.first, self.none = nn.Dropout(0.2), nn.Dropout(0.0)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)
        self.lstm, self.plain = nn.LSTM(4, 4, num_layers=2, dropout=0.4, batch_first=True), nn.LSTM(4, 4)

    def forward(self, x):
        return self.lstm(self.attention(*[self.first(x)] * 3)[0])[0]


def test_dropout_is_found_inside_attention_and_recurrent_layers():
    shares = [getattr(module, name) for module, name in parts.dropouts(Dropping())]
    assert sorted(shares) == [0.2, 0.3, 0.4]


def test_without_dropout_nothing_is_dropped_and_then_it_is_back():
    model, x = Dropping().train(), torch.randn(2, 3, 4)
    assert not torch.equal(model(x), model(x))
    with pytest.raises(KeyError), parts.without_dropout(model):
        assert torch.equal(model(x), model(x)) and model.training
        raise KeyError
    assert (model.first.p, model.attention.dropout, model.lstm.dropout) == (0.2, 0.3, 0.4)
    assert not torch.equal(model(x), model(x))
