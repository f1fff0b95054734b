"""The encoder: transformers' ModernBERT with the same weights, and its own sparse path against the dense one.

BERT with the same weights: tests/huggingface/test_twins.py.
"""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_lab.config import BERT_SHAPE, SIZES, ModelConfig
from llm_lab.model import heads
from llm_lab.model.attention import SHORT_ROW
from llm_lab.model.encoder import Encoder
from llm_lab.model.heads import MaskedLanguageModel
from tests.model.twin import in_fp64, modern_bert  # noqa: F401 (a fixture)

SHAPES = {
    "one layer": ModelConfig(vocabulary_size=61, width=16, num_layers=1, num_heads=2, feed_forward_width=24),
    "three layers": ModelConfig(vocabulary_size=203, width=48, num_layers=3, num_heads=4, feed_forward_width=100),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def random_model(config, dtype=torch.float64, scale=0.5, seed=0):
    """A model far from its start, so that every weight matters: norms and biases random, too."""
    torch.manual_seed(seed)
    model = MaskedLanguageModel(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return model.eval()


def right_padding(rows, length, seed=1):
    """Masks as a collator makes them: the first few tokens of each row are real."""
    lengths = torch.randint(1, length + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    return torch.arange(length) < lengths[:, None]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_those_of_transformers(shape, dtype, padded, request):
    if dtype == torch.float64:
        request.getfixturevalue("in_fp64")
    ours = random_model(SHAPES[shape], dtype)
    theirs = modern_bert(ours)
    ids = torch.randint(5, ours.config.vocabulary_size, (3, 40), generator=torch.Generator().manual_seed(2))
    mask = right_padding(3, 40) if padded else None
    with torch.no_grad():
        expected = theirs(ids, None if mask is None else mask.long()).logits
        logits = ours(ids, mask)
    seen = slice(None) if mask is None else mask  # what stands at padding matters to nobody
    assert expected[seen].abs().max() > 1  # no comparison of zeros
    difference = (logits - expected)[seen].abs().max() / expected[seen].abs().max()
    assert difference < TOLERANCE[dtype]


@pytest.mark.usefixtures("in_fp64")
def test_gradients_equal_those_of_transformers():
    ours = random_model(SHAPES["three layers"])
    theirs = modern_bert(ours)
    ids = torch.randint(5, 203, (2, 30), generator=torch.Generator().manual_seed(3))
    for model, logits in ((ours, ours(ids)), (theirs, theirs(ids).logits)):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    pairs = [
        (ours.encoder.embedding.weight, theirs.model.embeddings.tok_embeddings.weight),  # tied: from both ends
        (ours.encoder.blocks[1].attention_norm.weight, theirs.model.layers[1].attn_norm.weight),
        (ours.encoder.blocks[2].feed_forward.down.weight, theirs.model.layers[2].mlp.Wo.weight),
        (ours.head.bias, theirs.decoder.bias),
        (ours.head.dense.weight, theirs.head.dense.weight),
    ]
    for our, their in pairs:
        assert torch.allclose(our.grad, their.grad, rtol=0, atol=1e-10 * float(their.grad.abs().max()) + 1e-14)


CHOICES = {
    "positions": ["rotary", "learned", "sinusoidal", "alibi", "none"],
    "norm_place": ["pre", "post"],
    "norm_kind": ["layer", "rms"],
    "feed_forward": ["geglu", "gelu"],
    "biases": [False, True],
}


@settings(max_examples=25)
@given(
    st.fixed_dictionaries({name: st.sampled_from(kinds) for name, kinds in CHOICES.items()}),
    st.integers(1, 3),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_the_sparse_path_equals_the_dense_one_forward_and_backward(choices, layers, length, padded, seed):
    config = ModelConfig(vocabulary_size=31, width=8, num_layers=layers, num_heads=2, feed_forward_width=12, **choices)
    model = random_model(config, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 31, (3, length), generator=draw)
    mask = right_padding(3, length, seed) if padded else None
    chosen = torch.randint(0, length, (3, 4), generator=draw)  # in any order, some twice
    results = []
    for sparse in (False, True):
        model.zero_grad()
        logits = model(ids, mask, chosen) if sparse else model(ids, mask)[torch.arange(3)[:, None], chosen]
        logits.square().sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
        results.append((logits.detach(), gradients))
    (dense, dense_gradients), (sparse, sparse_gradients) = results
    assert torch.allclose(sparse, dense, rtol=1e-10, atol=1e-10)
    for one, other in zip(sparse_gradients, dense_gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-10 * max(1.0, float(other.abs().max())))


def test_alibi_lowers_the_scores_of_far_tokens_in_every_layer():
    """With all scores equal a token looks at distance d with a share of exp(-slope d), in maps and in output."""
    config = ModelConfig(
        vocabulary_size=31, width=8, num_layers=2, num_heads=2, feed_forward_width=12, positions="alibi"
    )
    model = random_model(config)
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.attention.query.weight.zero_()
    ids, mask = torch.randint(5, 31, (2, 7)), torch.tensor([[True] * 7, [True] * 5 + [False] * 2])
    distance = (torch.arange(7)[:, None] - torch.arange(7)).abs().double()
    shares = torch.stack([(-slope * distance).exp() for slope in (1 / 16, 1 / 256)]) * mask[:, None, None, :]
    expected = shares / shares.sum(dim=-1, keepdim=True)  # (B, H, T, T)
    maps = model.encoder.attention_maps(ids, mask)
    assert torch.allclose(maps, expected.expand(2, *expected.shape), rtol=0, atol=1e-12)
    block = model.encoder.blocks[0]
    x = model.encoder.embed(ids)
    mixed = torch.einsum("bhts,bshd->bthd", expected, block.attention.value(x).unflatten(-1, (2, 4))).flatten(2)
    middle = x + block.attention.output(mixed)
    by_hand = middle + block.feed_forward(block.feed_forward_norm(middle))
    found = block(x, mask[:, None, None], bias=model.encoder.bias(7))
    assert torch.allclose(found, by_hand, rtol=0, atol=1e-12)
    whole = model.encoder.final_norm(model.encoder.blocks[1](by_hand, mask[:, None, None], bias=model.encoder.bias(7)))
    assert torch.allclose(model.encoder(ids, mask), whole, rtol=0, atol=1e-12)


def test_the_maps_of_a_later_layer_are_those_of_what_reaches_it():
    encoder = random_model(replace(SHAPES["three layers"], positions="alibi", norm_place="post")).encoder
    ids = torch.randint(5, 203, (2, 9))
    x, bias = encoder.embed(ids), encoder.bias(9)
    for block, maps in zip(encoder.blocks, encoder.attention_maps(ids), strict=True):
        assert torch.allclose(block.attention.weights(x, bias=bias), maps, rtol=0, atol=1e-12)
        x = block(x, bias=bias)


@pytest.mark.parametrize("length", [9, SHORT_ROW + 1])
@pytest.mark.parametrize("padded", [False, True])
def test_alibi_under_autocast_is_nearly_the_precise_one(length, padded):
    """Short rows and long ones go through different kernels."""
    model = random_model(replace(SHAPES["one layer"], positions="alibi"), torch.float32, scale=0.1)
    ids, mask = torch.randint(5, 61, (2, length)), right_padding(2, length) if padded else None
    precise = model(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(ids, mask)
    assert torch.allclose(rounded.float(), precise, rtol=0, atol=0.03 * float(precise.detach().abs().max()))


@pytest.mark.parametrize("choice", ["alibi", "post", "rms", "gelu", "biases"])
def test_a_choice_trains_under_autocast_and_pads_as_the_default_does(choice):
    changes = {
        "alibi": {"positions": "alibi"},
        "post": {"norm_place": "post"},
        "rms": {"norm_kind": "rms"},
        "gelu": {"feed_forward": "gelu"},
        "biases": {"biases": True},
    }
    model = random_model(replace(SHAPES["three layers"], **changes[choice]), torch.float32, scale=0.1)
    ids, mask = torch.randint(5, 203, (2, 9)), torch.tensor([[True] * 9, [True] * 6 + [False] * 3])
    assert torch.allclose(model(ids, mask)[1, :6], model(ids[1:, :6])[0], rtol=0, atol=1e-5)
    positions, targets = torch.tensor([[0, 8], [2, 5]]), torch.tensor([[7, 8], [9, 10]])
    precise = model.loss_sum(ids, positions, targets, mask)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss_sum(ids, positions, targets, mask)
    loss.backward()
    assert loss.item() == pytest.approx(precise.item(), rel=0.02)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A bias of the keys adds the same to all scores of a query: softmax doesn't see it.
        assert (parameter.grad != 0).any() or name.endswith("key.bias"), name


@pytest.mark.parametrize("kind", ["default", "BERT"])
def test_in_bf16_the_fast_path_errs_no_more_than_the_plain_one(kind, monkeypatch):
    """Against gradients in fp64. Plain: each layer converts for itself, and the loss is the formula."""
    config = replace(SHAPES["three layers"], **(BERT_SHAPE if kind == "BERT" else {}))
    exact, rounded = random_model(config, scale=0.1), random_model(config, torch.float32, scale=0.1)
    rounded.load_state_dict(exact.state_dict())
    ids, positions = torch.randint(5, 203, (8, 12)), torch.arange(0, 12, 2).expand(8, 6)
    targets = torch.randint(5, 203, (8, 6))

    def gradients(model):
        model.zero_grad()
        model.loss_sum(ids, positions, targets).backward()
        return {name: parameter.grad.double() for name, parameter in model.named_parameters()}

    def errors():
        with torch.autocast("cpu", torch.bfloat16):
            found = gradients(rounded)
        return {name: float((found[name] - right[name]).norm() / right[name].norm()) for name in right}

    right = gradients(exact)
    right = {name: gradient for name, gradient in right.items() if not name.endswith("key.bias")}  # zero
    fast = errors()
    monkeypatch.setattr("llm_lab.model.block.product_format", lambda x: x.dtype)
    monkeypatch.setattr(heads, "chunked_cross_entropy", heads.plain_cross_entropy)
    plain = errors()
    assert fast != plain and max(fast.values()) < 0.05
    assert sum(fast.values()) < 1.15 * sum(plain.values())
    for name in right:
        assert fast[name] < 2 * plain[name], name  # of a small bias, rounding decides


def test_queries_keys_and_values_share_one_conversion_and_so_do_gate_and_up():
    model = random_model(SHAPES["one layer"], torch.float32)
    only = model.encoder.blocks[0]
    read = []
    for layer in (*only.attention.children(), *only.feed_forward.children()):
        layer.register_forward_pre_hook(lambda layer, inputs: read.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randint(5, 61, (2, 6)))
    query, key, value, _, gate, up, _ = read
    assert query is key is value and gate is up
    assert query.dtype == gate.dtype == torch.bfloat16


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi"])
def test_order_matters_with_positions_and_does_not_without(positions):
    ids = torch.tensor([[5, 9, 7, 7, 12, 6]])
    order = torch.tensor([3, 0, 5, 2, 4, 1])
    shape = {"vocabulary_size": 31, "width": 8, "num_layers": 2, "num_heads": 2, "feed_forward_width": 12}
    without = random_model(ModelConfig(**shape, positions="none"))
    assert torch.allclose(without(ids[:, order]), without(ids)[:, order], rtol=0, atol=1e-12)
    having = random_model(ModelConfig(**shape, positions=positions))
    assert not torch.allclose(having(ids[:, order]), having(ids)[:, order], atol=1e-3)


def test_what_a_mask_hides_changes_nothing():
    model = random_model(SHAPES["three layers"])
    ids = torch.randint(5, 203, (1, 12))
    mask = torch.arange(12)[None] < 8
    other = ids.clone()
    other[:, 8:] = torch.randint(5, 203, (1, 4))
    assert torch.equal(model(ids, mask)[:, :8], model(other, mask)[:, :8])
    assert torch.allclose(model(ids, mask)[:, :8], model(ids[:, :8]), rtol=0, atol=1e-12)


def test_a_row_of_padding_alone_is_finite():
    model = random_model(SHAPES["one layer"])
    mask = torch.tensor([[True] * 5, [False] * 5])
    logits = model(torch.randint(5, 61, (2, 5)), mask)
    logits.sum().backward()
    assert logits.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_loss_starts_at_the_logarithm_of_the_vocabulary(size):
    torch.manual_seed(0)
    model = MaskedLanguageModel(SIZES[size].model)
    ids = torch.randint(5, 8192, (4, 32))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), torch.randint(5, 8192, (128,)))
    assert loss.item() == pytest.approx(math.log(8192), abs=0.1)


def test_weights_start_with_the_published_spread():
    """0.02, and smaller by sqrt(2 layers) where a block writes into the residual stream (GPT-2)."""
    torch.manual_seed(0)
    encoder = Encoder(SIZES["small"].model)
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("output.weight", "down.weight"))
            assert parameter.std().item() == pytest.approx(0.02 / (8**0.5 if writes else 1), rel=0.03), name
            assert abs(parameter.mean().item()) < 5e-4
        else:
            assert (parameter == 1).all()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_added_positions_start_as_large_as_the_embeddings(positions):
    torch.manual_seed(0)
    encoder = Encoder(replace(SIZES["small"].model, positions=positions))
    waves, words = (table.square().mean().sqrt().item() for table in (encoder.added.table, encoder.embedding.weight))
    assert waves == pytest.approx(words, rel=0.03)


def test_post_norm_weights_start_with_one_spread_and_biases_at_zero():
    """BERT's start: no part of a post-norm stream is written to without a norm after it."""
    torch.manual_seed(0)
    model = MaskedLanguageModel(replace(SIZES["small"].model, **BERT_SHAPE))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.03), name
        else:
            assert (parameter == (1 if name.endswith("norm.weight") else 0)).all(), name
    assert isinstance(model.encoder.final_norm, torch.nn.Identity)


def test_attention_maps_are_those_of_transformers():
    ours = random_model(SHAPES["three layers"])
    ids, mask = torch.randint(5, 203, (2, 10)), torch.tensor([[True] * 10, [True] * 6 + [False] * 4])
    with torch.no_grad():
        theirs = torch.stack(modern_bert(ours, "eager")(ids, mask.long(), output_attentions=True).attentions)
    maps = ours.encoder.attention_maps(ids, mask)
    assert maps.shape == (3, 2, 4, 10, 10)
    assert torch.allclose(maps, theirs, rtol=0, atol=1e-6)  # theirs are rounded to fp32


def test_a_row_longer_than_the_model_is_refused():
    model = MaskedLanguageModel(ModelConfig(vocabulary_size=31, width=8, num_heads=2, num_layers=1, max_length=8))
    model(torch.zeros(1, 8, dtype=torch.long))
    with pytest.raises(ValueError, match="a row of 9 tokens is longer than this model's 8: shorten it"):
        model(torch.zeros(1, 9, dtype=torch.long))


def test_dropout_acts_in_training_alone():
    config = ModelConfig(vocabulary_size=31, width=8, num_heads=2, num_layers=2, feed_forward_width=12, dropout=0.5)
    model = random_model(config)
    ids = torch.randint(5, 31, (2, 6))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))
    torch.manual_seed(7)
    first = model(ids)
    torch.manual_seed(7)
    assert torch.equal(model(ids), first)


def test_dropout_of_embeddings_comes_after_the_norm():
    """Each number of the normalised embedding is kept, doubled, or gone; the norm would spread what is missing."""
    config = ModelConfig(vocabulary_size=31, width=8, num_heads=2, num_layers=1, feed_forward_width=12, dropout=0.5)
    encoder = random_model(config).encoder
    ids = torch.randint(5, 31, (4, 6))
    whole, dropped = encoder.embed(ids), encoder.train().embed(ids)
    assert torch.equal(dropped, torch.where(dropped == 0, 0.0, 2 * whole))
    assert 0.2 < (dropped == 0).double().mean() < 0.8
