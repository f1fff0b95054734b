"""The block: its formula written out, GeGLU against the formula and its parts against PyTorch's."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llm_lab.config import ModelConfig
from llm_lab.model.block import (
    Block,
    FeedForward,
    GatedFeedForward,
    ShortConvolution,
    gather_positions,
    make_feed_forward,
    make_norm,
)
from llm_lab.model.encoder import Encoder
from llm_lab.model.positions import rotary_table

CONFIG = ModelConfig(vocabulary_size=31, width=8, num_layers=2, num_heads=2, feed_forward_width=12)
CONVOLVED = replace(CONFIG, convolution=3)


def normalised(x, weight):
    """Mean 0 and variance 1 over the features, then the scale."""
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * weight


def test_the_norm_is_the_formula():
    norm = make_norm(CONFIG).double()
    nn.init.normal_(norm.weight)
    x = 3 + 5 * torch.randn(2, 3, 8).double()
    assert torch.allclose(norm(x), normalised(x, norm.weight), rtol=0, atol=1e-12)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


def test_geglu_is_the_formula():
    feed_forward = GatedFeedForward(4, 6).double()
    x = torch.randn(2, 3, 4).double()
    gate, up = x @ feed_forward.gate.weight.T, x @ feed_forward.up.weight.T
    gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    assert torch.allclose(feed_forward(x), (gelu * up) @ feed_forward.down.weight.T, rtol=0, atol=1e-12)


def test_rms_norm_is_the_formula():
    """Divided by the root of the mean square: sizes are made equal, means are left alone. Never a bias."""
    norm = make_norm(replace(CONFIG, norm_kind="rms", biases=True, norm_epsilon=1e-3)).double()
    nn.init.normal_(norm.weight)
    x = 3 + 5 * torch.randn(2, 3, 8).double()
    found = norm(x)
    for b in range(2):
        for t in range(3):
            numbers = x[b, t].tolist()
            root = math.sqrt(sum(number * number for number in numbers) / 8 + 1e-3)
            for e, number in enumerate(numbers):
                assert found[b, t, e].item() == pytest.approx(number / root * norm.weight[e].item(), abs=1e-12)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


def test_rms_norm_stays_in_the_precision_of_its_weights_as_layer_norm_does_under_autocast():
    norm, x = make_norm(replace(CONFIG, norm_kind="rms")), torch.randn(2, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.float())) and norm(x).dtype == torch.float32


def test_epsilon_and_bias_of_the_norm_are_those_of_the_config():
    norm = make_norm(replace(CONFIG, biases=True, norm_epsilon=0.5)).double()
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 8).double()
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 0.5).sqrt() + norm.bias
    assert torch.allclose(norm(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("biases", [False, True])
def test_the_plain_feed_forward_is_the_formula(biases):
    feed_forward = FeedForward(4, 6, biases).double()
    x = torch.randn(2, 3, 4).double()
    hidden = x @ feed_forward.up.weight.T + (feed_forward.up.bias if biases else 0)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    expected = hidden @ feed_forward.down.weight.T + (feed_forward.down.bias if biases else 0)
    assert torch.allclose(feed_forward(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(("kind", "matrices"), [("geglu", ["gate", "up", "down"]), ("gelu", ["up", "down"])])
def test_the_config_names_the_feed_forward(kind, matrices, biases):
    names = [
        name for name, _ in make_feed_forward(replace(CONFIG, feed_forward=kind, biases=biases)).named_parameters()
    ]
    parts = ("weight", "bias") if biases else ("weight",)
    assert names == [f"{matrix}.{part}" for matrix in matrices for part in parts]


def pytorchs_layer(block, norm_first):
    """`nn.TransformerEncoderLayer` with the weights of our GELU block with biases."""
    theirs = nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=norm_first).double()
    attention = block.attention
    pairs = [
        (theirs.self_attn.out_proj, attention.output),
        (theirs.linear1, block.feed_forward.up),
        (theirs.linear2, block.feed_forward.down),
        (theirs.norm1, block.attention_norm),
        (theirs.norm2, block.feed_forward_norm),
    ]
    with torch.no_grad():
        for kind in ("weight", "bias"):
            stacked = torch.cat([getattr(one, kind) for one in (attention.query, attention.key, attention.value)])
            getattr(theirs.self_attn, f"in_proj_{kind}").copy_(stacked)
            for their, our in pairs:
                getattr(their, kind).copy_(getattr(our, kind))
    return theirs.eval()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("place", ["pre", "post"])
def test_the_plain_block_is_pytorchs_forward_and_backward(place, padded):
    torch.manual_seed(0)
    config = replace(CONFIG, norm_place=place, feed_forward="gelu", biases=True)
    block = Block(config).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    theirs = pytorchs_layer(block, norm_first=place == "pre")
    keep = torch.tensor([[True] * 5, [True, True, False, False, False]]) if padded else None
    inputs = [torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)).double() for _ in range(2)]
    ours_x, theirs_x = (x.requires_grad_() for x in inputs)
    found = block(ours_x, None if keep is None else keep[:, None, None])
    expected = theirs(theirs_x, src_key_padding_mask=None if keep is None else ~keep)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    upstream = torch.linspace(-1, 1, 80).double().view(2, 5, 8)
    for output in (found, expected):
        (output * upstream).sum().backward()
    assert torch.allclose(ours_x.grad, theirs_x.grad, rtol=0, atol=1e-10 * float(theirs_x.grad.abs().max()))


@pytest.mark.parametrize("first", [True, False])
def test_a_post_norm_block_normalises_each_sum(first):
    """The first one, too: its norm stands behind the attention."""
    torch.manual_seed(0)
    block = Block(replace(CONFIG, norm_place="post"), first=first).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 8).double()
    middle = normalised(x + block.attention(x, x), block.attention_norm.weight)
    expected = normalised(middle + block.feed_forward(middle), block.feed_forward_norm.weight)
    assert torch.allclose(block(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("first", [True, False])
def test_the_block_adds_attention_then_feed_forward(first):
    torch.manual_seed(0)
    block = Block(CONFIG, first=first).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 8).double()
    source = x if first else normalised(x, block.attention_norm.weight)
    middle = x + block.attention(source, source)
    expected = middle + block.feed_forward(normalised(middle, block.feed_forward_norm.weight))
    assert torch.allclose(block(x), expected, rtol=0, atol=1e-10)


def test_chosen_positions_are_gathered_row_by_row():
    x = torch.randn(2, 5, 3)
    positions = torch.tensor([[4, 0, 4], [2, 2, 1]])
    assert torch.equal(gather_positions(x, positions), torch.stack([x[b, positions[b]] for b in range(2)]))


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rotary", [True, False])
def test_chosen_positions_equal_the_dense_block(rotary, biased, place):
    torch.manual_seed(1)
    block = Block(replace(CONFIG, norm_place=place)).double()
    x = torch.randn(2, 6, 8).double()
    mask = torch.rand(2, 1, 1, 6) < 0.7
    tables = tuple(table.double() for table in rotary_table(6, 4)) if rotary else None
    positions = torch.tensor([[5, 0], [3, 3]])
    bias = torch.randn(2, 6, 6).double() if biased else None  # another number for each head and pair
    dense = gather_positions(block(x, mask, tables, bias=bias), positions)
    assert torch.allclose(block(x, mask, tables, positions, bias), dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", ["pre", "post"])
def test_dropout_drops_both_branches_and_never_the_stream(place):
    """With nearly everything dropped the block is the identity, or with post-norm its two norms."""
    torch.manual_seed(0)
    config = ModelConfig(vocabulary_size=31, width=8, num_heads=2, num_layers=2, dropout=0.9999, norm_place=place)
    block, x = Block(config).train().double(), torch.randn(2, 5, 8).double()
    stream = x if place == "pre" else normalised(normalised(x, 1), 1)
    assert torch.allclose(block(x), stream, rtol=0, atol=1e-12)
    assert not torch.allclose(block.eval()(x), stream, rtol=0, atol=1e-6)


def test_the_short_convolution_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    for words in (1, 3, 5):
        layer = ShortConvolution(6, words).double()
        x = torch.randn(2, 9, 6, generator=generator, dtype=torch.float64)
        assert torch.equal(layer(x), x)  # it starts as the identity
        shares = layer.neighbours.weight.detach().normal_(generator=generator)[:, 0]  # (E, words)
        expected = x.clone()
        for t in range(9):
            for d in range(-(words // 2), words // 2 + 1):
                if 0 <= t + d < 9:
                    expected[:, t] += shares[:, d + words // 2] * x[:, t + d]
        assert torch.allclose(layer(x), expected, atol=1e-12)


def test_padding_gives_nothing_to_the_convolution():
    generator = torch.Generator().manual_seed(1)
    model = Encoder(replace(CONVOLVED, max_length=16)).eval().double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "neighbours" in name:
                parameter.normal_(generator=generator)
    ids = torch.randint(5, 30, (3, 8), generator=generator)
    padded = F.pad(ids, (0, 4))
    mask = torch.arange(12) < 8
    assert torch.allclose(model(padded, mask.expand(3, -1))[:, :8], model(ids), atol=1e-12)
    positions = torch.tensor([[1, 7]]).expand(3, -1)
    assert torch.allclose(model(ids, positions=positions), model(ids)[:, [1, 7]], atol=1e-12)
    maps = model.attention_maps(padded, mask.expand(3, -1))
    assert torch.allclose(maps[..., :8, :8], model.attention_maps(ids), atol=1e-12)
