"""Muon against PyTorch's own and the singular value decomposition; the groups against the names of parameters."""

import pytest
import torch
from torch import nn

from llm_lab.config import ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.train.optimizer import Muon, build_optimizers, orthogonalize

SHAPES = [(24, 24), (64, 16), (16, 64), (1, 30), (30, 1)]


def copies(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator) for shape in shapes]
    return [nn.Parameter(x.clone()) for x in drawn], [nn.Parameter(x.clone()) for x in drawn]


def pytorchs(parameters, lr, weight_decay):
    return torch.optim.Muon(parameters, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_in_bf16_it_is_pytorchs_muon(weight_decay):
    ours, theirs = copies(SHAPES)
    start = [p.detach().clone() for p in ours]
    muon = Muon(ours, lr=0.02, weight_decay=weight_decay, dtype=torch.bfloat16)
    reference = pytorchs(theirs, 0.02, weight_decay)
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        muon.step()
        reference.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        moved = (b - before).norm()
        assert (a - b).norm() < 0.03 * moved  # bf16 keeps 8 bits; the order of the products differs


@pytest.mark.parametrize("shape", [(24, 24), (64, 16), (16, 64)])
def test_one_step_moves_along_the_orthogonal_factor(shape):
    """From rest, the step is lr * 0.2 sqrt(max(m, n)) * U V^T of the gradient, nearly, and decay shrinks before it."""
    (parameter,), _ = copies([shape])
    before = parameter.detach().clone()
    parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    u, _, vh = torch.linalg.svd(parameter.grad, full_matrices=False)
    Muon([parameter], lr=0.01, weight_decay=0.5).step()
    step = (before * (1 - 0.01 * 0.5) - parameter) / (0.01 * 0.2 * max(shape) ** 0.5)
    core = u.T @ step @ vh.T
    assert torch.allclose(core, torch.diag(core.diagonal()), atol=2e-3)  # no direction is mixed with another
    assert (core.diagonal() > 0.6).all() and (core.diagonal() < 1.3).all()


@pytest.mark.parametrize("shape", [(24, 24), (8, 40), (3, 16, 20)])
def test_orthogonalized_matrices_keep_their_singular_vectors(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    core = u.mT @ orthogonalize(matrices, torch.float64) @ vh.mT
    assert torch.allclose(core, torch.diag_embed(core.diagonal(dim1=-2, dim2=-1)), atol=1e-9)
    before = torch.linalg.svdvals(matrices) / matrices.norm(dim=(-2, -1))[..., None]
    after = core.diagonal(dim1=-2, dim2=-1)  # a value below a hundredth of the norm is lifted, but not all the way
    assert after[before > 0.01].min() > 0.6 and after.max() < 1.3
    assert (after > 20 * before)[before < 0.01].all()


def test_the_iteration_is_the_published_polynomial_of_each_singular_value():
    """Newton-Schulz acts on each singular value alone: s -> a s + b s^3 + c s^5, five times."""
    singular = torch.tensor([1.0, 0.5, 0.1, 0.01], dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    expected = singular / singular.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    result = orthogonalize(q @ torch.diag(singular) @ q.T, torch.float64)
    assert torch.allclose(result, q @ torch.diag(expected) @ q.T, atol=1e-12)


def test_size_does_not_matter_and_zero_stays_zero():
    matrix = torch.randn(6, 9, dtype=torch.float64)
    assert torch.allclose(orthogonalize(1e4 * matrix, torch.float64), orthogonalize(matrix, torch.float64))
    assert (orthogonalize(torch.zeros(3, 4)) == 0).all()
    assert orthogonalize(matrix.float(), torch.bfloat16).dtype == torch.float32


def test_matrices_of_one_shape_together_move_as_each_alone():
    shapes = [(12, 20), (20, 12), (12, 20), (5, 5)]
    together, alone = copies(shapes)
    optimizers = [Muon(together, lr=0.01), *(Muon([p], lr=0.01) for p in alone)]
    for _ in range(2):
        for i, (a, b) in enumerate(zip(together, alone, strict=True)):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(i))
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_a_parameter_without_a_gradient_stays():
    (first, second), _ = copies([(4, 4), (4, 4)])
    before = second.detach().clone()
    first.grad = torch.ones(4, 4)
    Muon([first, second], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(second, before)


def test_muon_moves_matrices_only():
    with pytest.raises(ValueError, match="Muon moves matrices only"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


# -- which parameter goes where ---------------------------------------------------------------------------------------


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MaskedLanguageModel(
        ModelConfig(vocabulary_size=31, width=8, num_layers=2, num_heads=2, feed_forward_width=12, positions="learned")
    )


def groups_of(optimizers, model):
    """Parameter name -> (class of its optimizer, weight decay)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (type(member).__name__, group["weight_decay"])
        for member in optimizers
        for group in member.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_every_parameter_is_in_one_group_with_its_decay(model, kind):
    optimizers = build_optimizers(model, kind, 1e-3, 0.05)
    found = groups_of(optimizers, model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert sum(len(g["params"]) for m in optimizers for g in m.param_groups) == len(found)  # none twice
    linear = ("query", "key", "value", "output", "gate", "up", "down", "dense")
    for name, place in found.items():
        if name.split(".")[-2] in linear:
            assert place == (("Muon" if kind == "muon" else "AdamW"), 0.05), name
        elif "norm" in name or name.endswith("bias"):
            assert place == ("AdamW", 0.0), name
        else:
            assert name in ("encoder.embedding.weight", "encoder.added.table")
            assert place == ("AdamW", 0.05), name


def test_frozen_parameters_are_left_out(model):
    model.encoder.embedding.weight.requires_grad_(False)
    model.head.dense.weight.requires_grad_(False)
    found = groups_of(build_optimizers(model, "muon", 1e-3, 0.05), model)
    assert not {"encoder.embedding.weight", "head.dense.weight"} & set(found)


def test_a_model_of_matrices_or_of_vectors_alone_has_one_optimizer():
    assert [type(m).__name__ for m in build_optimizers(nn.Linear(3, 3, bias=False), "muon", 1e-3, 0.1)] == ["Muon"]
    assert [type(m).__name__ for m in build_optimizers(nn.LayerNorm(3), "muon", 1e-3, 0.1)] == ["AdamW"]


def test_adamw_is_pytorchs_with_our_constants(model):
    import copy

    twin = copy.deepcopy(model)
    optimizers = build_optimizers(model, "adamw", 1e-2, 0.0)
    reference = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
    ids = torch.randint(5, 31, (2, 6))
    for _ in range(3):
        for one in (model, twin):
            one.zero_grad()
            one(ids).square().mean().backward()
        for member in optimizers:
            member.step()
        reference.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_the_factor_is_of_the_peak_and_not_of_the_last_rate(model):
    optimizers = build_optimizers(model, "muon", 4e-3, 0.05)
    for factor in (0.5, 0.5, 1.0, 0.0):
        optimizers.set_factor(factor)
        assert {group["lr"] for member in optimizers for group in member.param_groups} == {4e-3 * factor}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_of_the_iteration_is_handed_on(model, dtype):
    muon = build_optimizers(model, "muon", 1e-3, 0.05, dtype).members[-1]
    assert isinstance(muon, Muon) and muon.dtype == dtype


def test_states_are_taken_up_again(model):
    """A fresh pair with the saved states moves on exactly like the one that never stopped."""
    import copy

    ids = torch.randint(5, 31, (2, 6))

    def steps(one, optimizers, count):
        for _ in range(count):
            one(ids).square().mean().backward()
            for member in optimizers:
                member.step()
            optimizers.zero_grad()
        assert all(p.grad is None for p in one.parameters())

    optimizers = build_optimizers(model, "muon", 1e-2, 0.05)
    steps(model, optimizers, 2)
    twin = copy.deepcopy(model)
    again = build_optimizers(twin, "muon", 1e-2, 0.05)
    again.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    steps(model, optimizers, 2)
    steps(twin, again, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    with pytest.raises(ValueError):
        build_optimizers(twin, "adamw", 1e-2, 0.05).load_state_dict(optimizers.state_dict())
