"""Positions against complex numbers, against transformers' tables, and against what they are made for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from llm_lab.model.positions import (
    AddedPositions,
    alibi_bias,
    alibi_loops,
    alibi_slopes,
    rotary_table,
    rotate,
    rotate_loops,
    sinusoidal_table,
)


def tables(length, width):
    """Rotary tables in fp64, from the formula."""
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * torch.cat((frequency, frequency))
    return angle.cos(), angle.sin()


@pytest.mark.parametrize("width", [2, 8, 64])
def test_sinusoids_are_the_formula(width):
    table = sinusoidal_table(40, width)
    for position in (0, 1, 17, 39):
        for i in range(width // 2):
            angle = position / 10_000 ** (2 * i / width)
            assert table[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)


def test_sinusoids_of_equal_distance_have_equal_products():
    """sin a sin b + cos a cos b = cos(a - b): two positions meet in a number that depends on their distance alone."""
    products = sinusoidal_table(50, 32) @ sinusoidal_table(50, 32).T
    for distance in (0, 3, 20):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
def test_added_positions_add_their_table(kind):
    torch.manual_seed(0)
    added = AddedPositions(kind, 12, 8, std=0.02)
    x = torch.randn(3, 7, 8)
    assert torch.equal(added(x), x + added.table[:7])
    assert (sum(p.numel() for p in added.parameters()) == 12 * 8) == (kind == "learned")
    assert added.table.square().mean().sqrt().item() == pytest.approx(0.02, rel=0.3)
    if kind == "sinusoidal":
        assert torch.allclose(added.table, 0.02 * 2**0.5 * sinusoidal_table(12, 8)) and not added.state_dict()


@pytest.mark.parametrize("width", [2, 6, 64])
def test_rotary_tables_are_the_formula(width):
    for table, exact in zip(rotary_table(128, width), tables(128, width), strict=True):
        assert table.dtype == torch.float32
        assert torch.allclose(table.double(), exact, atol=2e-5, rtol=0)  # fp32 angles up to 127 radians


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_the_ladder_of_rotations_is_one_and_is_a_complex_product(batch, heads, length, half, seed):
    x = torch.randn(batch, heads, length, 2 * half, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    turned = rotate(x, *tables(length, 2 * half))
    assert torch.allclose(rotate_loops(x), turned, rtol=0, atol=1e-10)
    angle = torch.arange(length)[:, None] * 10_000.0 ** (-2 * torch.arange(half, dtype=torch.float64) / (2 * half))
    by_complex = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    assert torch.allclose(turned, torch.cat((by_complex.real, by_complex.imag), dim=-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_ladder_of_rotations_has_one_gradient(dtype, tolerance):
    torch.manual_seed(0)
    x, upstream = torch.randn(2, 2, 3, 5, 8, dtype=dtype)
    x.requires_grad_()
    cosine, sine = (table.to(dtype) for table in tables(5, 8))
    gradients = [torch.autograd.grad(turned, x, upstream)[0] for turned in (rotate_loops(x), rotate(x, cosine, sine))]
    assert torch.allclose(*gradients, rtol=tolerance, atol=tolerance)
    back = rotate(upstream, cosine, -sine)  # the gradient is turned back by the same angle
    assert torch.allclose(gradients[0], back, rtol=tolerance, atol=tolerance)


def test_the_layout_is_that_of_transformers():
    query, key = torch.randn(2, 2, 3, 9, 16, dtype=torch.float64)
    cosine, sine = tables(9, 16)
    theirs = apply_rotary_pos_emb(query, key, cosine[None], sine[None])
    for ours, other in zip((query, key), theirs, strict=True):
        assert torch.allclose(rotate(ours, cosine, sine), other.double(), rtol=0, atol=1e-6)  # theirs rounds to fp32


def test_products_depend_on_the_distance_alone_and_lengths_stay():
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).expand(2, 1, 1, 30, 8)
    turned_query, turned_key = rotate(query, *tables(30, 8)), rotate(key, *tables(30, 8))
    products = (turned_query @ turned_key.mT)[0, 0]
    for distance in (-11, 0, 4):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), rtol=0, atol=1e-10)
    assert not torch.allclose(products[0, 0], products[0, 9])
    assert torch.allclose(turned_query.norm(dim=-1), query.norm(dim=-1))


def test_a_table_for_each_row_turns_chosen_positions():
    """Tables (B, 1, K, D): the positions of row 0 and of row 1 differ."""
    x = torch.randn(2, 3, 10, 8, dtype=torch.float64)
    cosine, sine = tables(10, 8)
    chosen = torch.tensor([[1, 4, 9], [0, 5, 5]])
    picked = torch.stack([x[b, :, chosen[b]] for b in range(2)])
    whole = torch.stack([rotate(x, cosine, sine)[b, :, chosen[b]] for b in range(2)])
    assert torch.equal(rotate(picked, cosine[chosen][:, None], sine[chosen][:, None]), whole)


def test_the_slopes_are_the_published_ones():
    """Section 3 of arXiv 2108.12409: 1/2, 1/4, .. 1/256 with 8 heads; with 16 the roots of 1/2 between them."""
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    sixteen = alibi_slopes(16)
    assert torch.equal(sixteen[1::2], alibi_slopes(8))
    assert sixteen[0].item() == pytest.approx(math.sqrt(1 / 2), rel=1e-6)


@given(st.integers(1, 12), st.integers(1, 9))
def test_the_ladder_of_biases_is_one(heads, length):
    bias = alibi_bias(alibi_slopes(heads), length)
    assert bias.shape == (heads, length, length)
    assert torch.allclose(bias, alibi_loops(heads, length), rtol=1e-5, atol=0)


def test_the_bias_number_by_number():
    """Two heads have the slopes 1/16 and 1/256: small enough to check by hand."""
    first = torch.tensor([[0.0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]])
    assert torch.equal(alibi_bias(alibi_slopes(2), 4), torch.stack((-first / 16, -first / 256)))
    assert torch.equal(alibi_loops(2, 4), torch.stack((-first / 16, -first / 256)))


def test_a_longer_row_continues_the_bias_of_a_shorter_one():
    slopes = alibi_slopes(4)
    assert torch.equal(alibi_bias(slopes, 30)[:, 10:17, 10:17], alibi_bias(slopes, 7))
