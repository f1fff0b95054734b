"""The head: its formula, tied weights, its loss. Equality with transformers: test_encoder.py."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.config import ModelConfig
from llm_lab.model import heads
from llm_lab.model.heads import (
    IGNORED,
    MaskedLanguageModel,
    MaskedWordHead,
    chunked_cross_entropy,
    count_parameters,
    plain_cross_entropy,
)

CONFIG = ModelConfig(vocabulary_size=31, width=8, num_layers=2, num_heads=2, feed_forward_width=12)


def test_the_head_is_the_formula():
    torch.manual_seed(0)
    head = MaskedWordHead(CONFIG).double()
    with torch.no_grad():
        head.dense.weight.normal_()
        head.norm.weight.normal_()
        head.bias.normal_()
    x, embedding = torch.randn(2, 3, 8).double(), torch.randn(31, 8).double()
    hidden = x @ head.dense.weight.T
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    hidden = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = (hidden * head.norm.weight) @ embedding.T + head.bias
    assert torch.allclose(head(x, embedding), expected, rtol=0, atol=1e-10)


def test_the_bias_starts_at_zero_and_the_dense_layer_at_its_spread():
    torch.manual_seed(0)
    head = MaskedWordHead(ModelConfig(width=256))
    assert (head.bias == 0).all()
    assert abs(head.dense.weight.std().item() - 0.02) < 0.001


def test_the_embedding_is_tied_once():
    model = MaskedLanguageModel(CONFIG)
    assert sum("embedding.weight" in name for name, _ in model.named_parameters()) == 1
    assert sum(tuple(p.shape) == (31, 8) for p in model.parameters()) == 1
    ids = torch.randint(5, 30, (2, 6))
    before = model(ids)
    with torch.no_grad():
        model.encoder.embedding.weight[30] += 1  # a word that no row contains: its own logit changes, and no other
    changed = (model(ids) - before).abs().amax(dim=(0, 1)) > 0
    assert changed.nonzero().flatten().tolist() == [30]


def test_only_trained_parameters_are_counted():
    model = MaskedLanguageModel(CONFIG)
    assert count_parameters(model) == sum(p.numel() for p in set(model.parameters()))
    model.encoder.embedding.weight.requires_grad_(False)
    assert count_parameters(model) == sum(p.numel() for p in model.parameters()) - 31 * 8


# -- the loss ---------------------------------------------------------------------------------------------------------


def by_definition(features, weight, bias, targets):
    """-log(exp(logit of the target) / sum of exp(logits)), summed over the targets that count."""
    logits = features @ weight.T + bias
    shares = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
    return -sum(shares[i, t].log() for i, t in enumerate(targets.tolist()) if t != IGNORED)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(2, 7), st.integers(1, 4), st.integers(0, 10**6))
def test_both_losses_are_the_definition_forward_and_backward(n, width, size, chunk, seed):
    draw = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((n, width), (size, width), (size,))]
    targets = torch.randint(0, size, (n,), generator=draw)
    targets = targets.masked_fill(torch.rand(n, generator=draw) < 0.3, IGNORED)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "CHUNK", chunk)
        for loss_of in (by_definition, plain_cross_entropy, chunked_cross_entropy):
            inputs = [x.clone().requires_grad_() for x in made]
            loss = torch.as_tensor(loss_of(*inputs, targets), dtype=torch.float64)
            if loss.requires_grad:
                (3 * loss).backward()  # the gradient from above is handed on
            results.append((loss.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in inputs]))
    (expected, gradients), *others = results
    for loss, found in others:
        assert torch.allclose(loss, expected, rtol=1e-10, atol=1e-10)
        for one, other in zip(found, gradients, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-10 * max(1.0, float(other.abs().max())))


def test_the_loss_of_the_model_is_that_of_its_logits():
    torch.manual_seed(0)
    model = MaskedLanguageModel(CONFIG)
    ids, positions = torch.randint(5, 31, (3, 6)), torch.tensor([[0, 4], [2, 2], [5, 0]])
    targets = torch.tensor([[7, 8], [9, IGNORED], [30, 5]])
    expected = torch.nn.functional.cross_entropy(
        model(ids)[torch.arange(3)[:, None], positions].flatten(0, 1), targets.flatten(), reduction="sum"
    )
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))
    loss = model.loss_sum(ids, positions, targets)
    assert torch.allclose(loss, expected, rtol=1e-6)
    for one, other in zip(torch.autograd.grad(loss, list(model.parameters())), expected_gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", heads.ENCODERS)
def test_the_config_names_the_encoder(architecture):
    model = MaskedLanguageModel(replace(CONFIG, architecture=architecture))
    assert type(model.encoder) is heads.ENCODERS[architecture]
    assert model(torch.randint(5, 31, (2, 6)), positions=torch.tensor([[0], [5]])).shape == (2, 1, 31)


def test_every_architecture_of_the_config_has_its_encoder():
    help = {one.name: one.metadata["help"] for one in fields(ModelConfig)}["architecture"]
    assert help.replace(" or ", ", ").split(", ") == list(heads.ENCODERS)


@pytest.mark.parametrize("architecture", heads.ENCODERS)
def test_the_loss_of_padded_rows_is_that_of_the_rows_alone(architecture):
    torch.manual_seed(0)
    model = MaskedLanguageModel(replace(CONFIG, architecture=architecture)).double()
    ids, mask = torch.randint(5, 31, (2, 7)), torch.arange(7) < torch.tensor([[7], [4]])
    positions, targets = torch.tensor([[0, 6], [3, 1]]), torch.tensor([[7, 8], [9, 30]])
    alone = [model.loss_sum(ids[i : i + 1, :n], positions[i : i + 1], targets[i : i + 1]) for i, n in ((0, 7), (1, 4))]
    padded = model.loss_sum(ids, positions, targets, mask)
    assert torch.allclose(padded, sum(alone), rtol=1e-12)
    blind = architecture in ("rnn", "lstm")  # they never see what is to the right, padding or not
    assert torch.allclose(padded, model.loss_sum(ids, positions, targets), rtol=1e-9) == blind


def test_under_autocast_the_loss_and_the_gradients_of_weights_stay_in_fp32():
    torch.manual_seed(0)
    model = MaskedLanguageModel(CONFIG)
    ids, positions, targets = torch.randint(5, 31, (4, 6)), torch.arange(6).expand(4, 6), torch.randint(5, 31, (4, 6))
    precise = model.loss_sum(ids, positions, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss_sum(ids, positions, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(precise.item(), rel=0.01)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_under_autocast_the_embeddings_gradient_is_not_rounded_to_bf16(monkeypatch):
    """Pieces are added up in fp32, and their sum reaches the weight as it is."""
    monkeypatch.setattr(heads, "CHUNK", 2)
    torch.manual_seed(0)
    features, weight, bias = torch.randn(7, 8), torch.randn(31, 8, requires_grad=True), torch.zeros(31)
    with torch.autocast("cpu", torch.bfloat16):
        chunked_cross_entropy(features, weight, bias, torch.arange(7)).backward()
    assert not torch.equal(weight.grad, weight.grad.bfloat16().float())


def test_an_impossible_word_costs_much_and_stays_finite():
    features, weight = torch.tensor([[1000.0]]), torch.tensor([[1.0], [-1.0]])
    inputs = [x.requires_grad_() for x in (features, weight, torch.zeros(2))]
    loss = chunked_cross_entropy(*inputs, torch.tensor([1]))
    loss.backward()
    assert loss.isfinite() and loss > 80
    assert torch.equal(inputs[2].grad, torch.tensor([1.0, -1.0]))


def test_what_is_not_a_number_shows():
    """The loop stops a run by its loss: the way to it may not hide a NaN."""
    features = torch.full((2, 1), float("nan"))
    assert chunked_cross_entropy(features, torch.ones(3, 1), torch.zeros(3), torch.tensor([0, 1])).isnan()
