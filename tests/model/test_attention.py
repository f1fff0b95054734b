"""Attention: the loops, the matrices and the kernel are one function, and that of other libraries."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_lab.model import attention as module
from llm_lab.model.attention import (
    SHORT_ROW,
    MultiHeadAttention,
    attention,
    attention_batched,
    attention_fused,
    attention_loops,
    attention_weights,
)
from llm_lab.model.positions import rotary_table

LADDER = {"loops": attention_loops, "batched": attention_batched, "fused": attention_fused, "chosen": attention}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@st.composite
def problems(draw):
    """Query, key, value, a mask and a bias that broadcast to (B, H, T, S), or none; rows may be empty of sources."""
    b, h, t, s = (draw(st.integers(1, 2)) for _ in range(4))
    t, s = t + draw(st.integers(0, 3)), s + draw(st.integers(0, 3))
    width, value_width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    made = [
        torch.randn(b, h, n, d, generator=generator, dtype=dtype) for n, d in ((t, width), (s, width), (s, value_width))
    ]
    shapes = [
        (b, h, t, s),
        (b, 1, 1, s),
        (1, 1, t, s),
        (b, 1, t, s),
        (1, h, 1, s),
        (1, 1, 1, s),
        (t, s),
        (s,),
        (b, h, t, 1),
    ]
    shape = draw(st.sampled_from([*shapes, None]))
    share = draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    mask = None if shape is None else torch.rand(shape, generator=generator) < share
    bias_shape = draw(st.sampled_from([(h, t, s), *shapes, None]))
    bias = None if bias_shape is None else 2 * torch.randn(bias_shape, generator=generator, dtype=dtype)
    return made, mask, bias


def close(a, b, dtype):
    """Equal to a part of the largest number."""
    tolerance = TOLERANCE[dtype] * max(1.0, float(b.detach().abs().max()))
    assert torch.allclose(a, b, rtol=0, atol=tolerance), float((a - b).detach().abs().max())


@settings(max_examples=40)
@given(problems())
def test_the_ladder_is_one_function_forward_and_backward(problem):
    (query, key, value), mask, bias = problem
    outputs, gradients = {}, {}
    for name, function in LADDER.items():
        inputs = [x.clone().requires_grad_() for x in (query, key, value, bias) if x is not None]
        outputs[name] = function(*inputs[:3], mask, *inputs[3:])
        weights = torch.linspace(-1, 1, outputs[name].numel(), dtype=query.dtype).view_as(outputs[name])
        loss = (outputs[name] * weights).sum()
        if loss.requires_grad:  # nothing may be attended to: the loops never touch the inputs
            loss.backward()
        gradients[name] = [torch.zeros_like(x) if x.grad is None else x.grad for x in inputs]
    for name in LADDER:
        assert outputs[name].isfinite().all()
        close(outputs[name], outputs["loops"], query.dtype)
        for ours, reference in zip(gradients[name], gradients["loops"], strict=True):
            assert ours.isfinite().all()
            close(ours, reference, query.dtype)


@settings(max_examples=25)
@given(problems())
def test_a_query_that_may_attend_to_nothing_yields_zeros(problem):
    (query, key, value), mask, bias = problem
    if mask is None:
        return
    full = mask.expand(*query.shape[:3], key.shape[2])
    empty = ~full.any(dim=-1)
    weights = attention_weights(query, key, mask, bias)
    assert torch.allclose(weights.sum(dim=-1), (~empty).to(query.dtype), atol=1e-5)
    assert (weights[~full] == 0).all()
    for function in LADDER.values():
        assert (function(query, key, value, mask, bias)[empty] == 0).all()


@pytest.mark.parametrize("name", ["batched", "fused", "chosen"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_empty_rows_stay_finite_in_every_format(name, dtype):
    query, key, value = (100 * torch.randn(3, 2, 2, 5, 8)).to(dtype)
    query, key, value = (x.requires_grad_() for x in (query, key, value))
    mask = torch.tensor([True, True, False, False, False])[:, None].expand(5, 5)
    bias = -torch.arange(5.0).expand(2, 5, 5).to(dtype)
    output = LADDER[name](query, key, value, mask, bias)
    output.sum().backward()
    assert (output[:, :, 2:] == 0).all() and output.isfinite().all()
    assert all(x.grad.isfinite().all() for x in (query, key, value))


@pytest.mark.parametrize("name", ["loops", "batched", "fused"])
def test_a_row_of_one_token_gives_its_value(name):
    query, key, value = torch.randn(3, 2, 3, 1, 4, dtype=torch.float64)
    assert torch.allclose(LADDER[name](query, key, value), value, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["loops", "batched", "fused"])
def test_equal_scores_give_the_mean_and_a_large_score_takes_all(name):
    value = torch.randn(1, 1, 4, 3, dtype=torch.float64)
    zero = torch.zeros(1, 1, 4, 3, dtype=torch.float64)
    assert torch.allclose(LADDER[name](zero, zero, value), value.mean(dim=2, keepdim=True).expand_as(value))
    query = zero + torch.tensor([100.0, 0, 0])
    key = zero.clone()
    key[0, 0, 2, 0] = 5
    assert torch.allclose(LADDER[name](query, key, value), value[:, :, 2:3].expand_as(value))


@pytest.mark.parametrize("name", LADDER)
def test_a_bias_multiplies_the_shares(name):
    """Equal scores, and a bias of log 3 on one of two sources: it gets 3 of 4 parts."""
    zero = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    value = torch.tensor([[[[1.0], [5.0]]]], dtype=torch.float64)
    bias = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    found = LADDER[name](zero, zero.expand(1, 1, 2, 2), value, None, bias)
    assert found.item() == pytest.approx(1 / 4 * 1 + 3 / 4 * 5, abs=1e-12)


def test_a_bias_that_asks_for_no_gradient_takes_the_same_kernels():
    """What a model does: the bias is a constant, in the precision of the weights, masks or none."""
    query, key, value = torch.randn(3, 2, 4, 6, 8)
    bias, mask = -torch.rand(4, 6, 6), torch.rand(2, 1, 1, 6) < 0.5
    for allowed in (None, mask):
        expected = attention_loops(query, key, value, allowed, bias)
        for function in LADDER.values():
            close(function(query, key, value, allowed, bias), expected, torch.float32)


def test_the_choice_is_plain_products_for_short_bf16_rows_on_a_cpu(monkeypatch):
    calls = []
    for name in ("attention_batched", "attention_fused"):
        monkeypatch.setattr(module, name, lambda *a, name=name: calls.append(name))
    for dtype, length in ((torch.bfloat16, SHORT_ROW), (torch.bfloat16, SHORT_ROW + 1), (torch.float32, 8)):
        attention(*torch.zeros(3, 1, 1, length, 2, dtype=dtype))
    assert calls == ["attention_batched", "attention_fused", "attention_fused"]


# -- heads ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ours():
    torch.manual_seed(0)
    return MultiHeadAttention(12, 3).double()


def pytorchs(ours):
    """`nn.MultiheadAttention` with the same weights; its masks are True where a query may *not* attend."""
    theirs = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.key.weight, ours.value.weight)))
        theirs.out_proj.weight.copy_(ours.output.weight)
    return theirs


def test_many_heads_are_those_of_pytorch(ours):
    theirs = pytorchs(ours)
    x, source = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 12).double()
    assert torch.allclose(ours(x, source), theirs(x, source, source)[0], rtol=0, atol=1e-12)
    keep = torch.rand(2, 7) < 0.7
    keep[:, 0] = True
    masked = theirs(x, source, source, key_padding_mask=~keep, average_attn_weights=False)[0]
    assert torch.allclose(ours(x, source, keep[:, None, None]), masked, rtol=0, atol=1e-12)


def test_weights_are_those_of_pytorch_and_explain_the_output(ours):
    x = torch.randn(2, 5, 12).double()
    keep = torch.tensor([[True] * 5, [True, True, True, False, False]])
    theirs = pytorchs(ours)(x, x, x, key_padding_mask=~keep, average_attn_weights=False)[1]
    weights = ours.weights(x, keep[:, None, None])
    assert torch.allclose(weights, theirs, rtol=0, atol=1e-12)
    mixed = torch.einsum("bhts,bshd->bthd", weights, ours.value(x).unflatten(-1, (3, 4))).flatten(2)
    assert torch.allclose(ours.output(mixed), ours(x, x, keep[:, None, None]), rtol=0, atol=1e-12)


def test_a_head_with_biases_and_a_bias_is_pytorchs():
    """`nn.MultiheadAttention` with biases in its layers; a float mask there is added to the scores."""
    ours = MultiHeadAttention(12, 3, biases=True).double()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        for kind in ("weight", "bias"):
            stacked = torch.cat([getattr(part, kind) for part in (ours.query, ours.key, ours.value)])
            getattr(theirs, f"in_proj_{kind}").copy_(stacked)
            getattr(theirs.out_proj, kind).copy_(getattr(ours.output, kind))
    x, bias = torch.randn(2, 5, 12).double(), torch.randn(3, 5, 5).double()
    expected, weights = theirs(x, x, x, attn_mask=bias.repeat(2, 1, 1), average_attn_weights=False)
    assert torch.allclose(ours(x, x, bias=bias), expected, rtol=0, atol=1e-12)
    assert torch.allclose(ours.weights(x, bias=bias), weights, rtol=0, atol=1e-12)


def test_rotated_heads_see_distances_only(ours):
    """The same tokens further along the row attend alike."""
    x = torch.randn(1, 6, 12).double()
    cosine, sine = (table.double() for table in rotary_table(20, 4))
    first = ours(x, x, rotary=(cosine[:6], sine[:6]))
    later = ours(x, x, rotary=(cosine[9:15], sine[9:15]))
    assert torch.allclose(first, later, rtol=0, atol=1e-5)  # the tables hold fp32 angles
    assert not torch.allclose(first, ours(x, x), atol=1e-3)


def test_chosen_queries_with_their_own_tables_equal_the_dense_rows(ours):
    x = torch.randn(2, 6, 12).double()
    cosine, sine = (table.double() for table in rotary_table(6, 4))
    dense = ours(x, x, rotary=(cosine, sine))
    chosen = torch.tensor([[0, 5], [3, 1]])
    picked = torch.stack([x[b, chosen[b]] for b in range(2)])
    sparse = ours(picked, x, rotary=(cosine, sine), query_rotary=(cosine[chosen], sine[chosen]))
    assert torch.allclose(sparse, torch.stack([dense[b, chosen[b]] for b in range(2)]), rtol=0, atol=1e-12)


def test_the_fused_kernel_is_called_with_our_polarity():
    """True may attend, as in PyTorch's kernel and not as in its module."""
    query, key, value = torch.randn(3, 1, 2, 4, 8, dtype=torch.float64)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    causal = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    for function in LADDER.values():
        assert torch.allclose(function(query, key, value, mask), causal, rtol=0, atol=1e-12)
