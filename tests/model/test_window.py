"""The window model: the same guess written word by word, and nothing that stands beyond the window."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_lab.config import ModelConfig
from llm_lab.model.heads import count_parameters
from llm_lab.model.window import PAD, WindowEncoder, windows
from llm_lab.text.tokenizer import SPECIAL_TOKENS
from tests.model.test_encoder import random_model, right_padding

CONFIG = ModelConfig(
    vocabulary_size=31, width=8, num_layers=2, num_heads=2, feed_forward_width=12, max_length=12, architecture="window"
)


def one_word(encoder, row, place):
    """The output at one place of one row of ids, from its neighbours as a list."""
    k = encoder.config.window
    near = [row[j] if 0 <= j < len(row) else 0 for j in range(place - k, place + k + 1)]
    vectors = [encoder.embedding_norm(encoder.embedding.weight[j]) for j in near]
    x = encoder.join.weight @ torch.cat(vectors)
    for norm, layer in zip(encoder.norms, encoder.layers, strict=True):
        x = x + layer(norm(x))
    return encoder.final_norm(x)


@settings(max_examples=15)
@given(st.integers(0, 4), st.integers(1, 7), st.integers(0, 10**6))
def test_the_output_is_that_of_each_word_by_itself(k, length, seed):
    encoder = random_model(replace(CONFIG, window=k), seed=seed).encoder
    ids = torch.randint(0, 31, (2, length))
    expected = torch.stack([torch.stack([one_word(encoder, row, t) for t in range(length)]) for row in ids.tolist()])
    assert torch.allclose(encoder(ids), expected, rtol=0, atol=1e-12)


def test_windows_of_a_row():
    ids = torch.tensor([[5, 6, 7]])
    assert windows(ids, 0).tolist() == [[[5], [6], [7]]]
    assert windows(ids, 2).tolist() == [[[0, 0, 5, 6, 7], [0, 5, 6, 7, 0], [5, 6, 7, 0, 0]]]


def test_pad_is_the_tokenizers():
    assert PAD == SPECIAL_TOKENS.index("[PAD]")


@pytest.mark.parametrize("k", [0, 1, 3])
def test_a_word_moves_what_is_near_and_nothing_farther(k):
    encoder = random_model(replace(CONFIG, window=k)).encoder
    ids = torch.randint(5, 30, (2, 9))
    before = encoder(ids)
    for place in range(9):
        changed = ids.clone()
        changed[0, place] = 30
        moved = (encoder(changed) - before).abs().amax(dim=-1)
        near = (torch.arange(9) - place).abs() <= k
        assert (moved[0][near] > 1e-6).all() and (moved[0][~near] == 0).all() and (moved[1] == 0).all()


def test_order_within_the_window_matters():
    encoder = random_model(CONFIG).encoder
    one, other = encoder(torch.tensor([[5, 6, 7, 8, 9], [6, 5, 7, 8, 9]]))
    assert (one[2] - other[2]).abs().max() > 1e-3


def test_padding_counts_as_pad_and_as_the_end_of_the_row():
    encoder, ids, mask = random_model(CONFIG).encoder, torch.randint(5, 31, (4, 10)), right_padding(4, 10)
    found = encoder(ids, mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        assert torch.allclose(found[row, :length], encoder(ids[row : row + 1, :length])[0], rtol=0, atol=1e-12)
    assert torch.equal(found, encoder(torch.where(mask, ids, 0)))


@pytest.mark.parametrize("padded", [False, True])
def test_chosen_positions_are_those_of_the_full_output(padded):
    encoder, ids = random_model(CONFIG).encoder, torch.randint(5, 31, (3, 9))
    mask = right_padding(3, 9) if padded else None
    positions = torch.tensor([[0, 8, 3, 1], [2, 2, 0, 5], [8, 7, 6, 4]])
    full = encoder(ids, mask)[torch.arange(3)[:, None], positions]
    assert torch.allclose(encoder(ids, mask, positions), full, rtol=0, atol=1e-12)


def test_only_the_chosen_positions_are_computed():
    encoder, seen = WindowEncoder(CONFIG), []
    encoder.join.register_forward_hook(lambda module, given, found: seen.append(tuple(found.shape)))
    encoder(torch.randint(5, 31, (3, 9)), positions=torch.tensor([[0, 8]] * 3))
    assert seen == [(3, 2, 8)]


def test_all_parameters_get_a_gradient_and_are_as_many_as_the_formula_says():
    model = random_model(CONFIG)
    model.loss_sum(torch.randint(5, 31, (3, 9)), torch.tensor([[1, 4]] * 3), torch.tensor([[7, 8]] * 3)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    v, e, f, n, k = CONFIG.vocabulary_size, CONFIG.width, CONFIG.feed_forward_width, CONFIG.num_layers, CONFIG.window
    assert count_parameters(model) == v * e + e + (2 * k + 1) * e * e + n * (3 * e * f + e) + e + (e * e + e + v)


def test_a_row_longer_than_the_model_is_refused():
    encoder = WindowEncoder(CONFIG)
    assert encoder(torch.zeros(1, 12, dtype=torch.long)).shape == (1, 12, 8)
    with pytest.raises(ValueError, match="a row of 13 tokens is longer than this model's 12: shorten it"):
        encoder(torch.zeros(1, 13, dtype=torch.long))


def test_dropout_acts_in_training_alone():
    model, ids = random_model(replace(CONFIG, dropout=0.5)), torch.randint(5, 31, (2, 6))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))


def test_dropout_acts_on_the_embeddings_and_on_what_each_layer_adds():
    encoder, dropped = WindowEncoder(replace(CONFIG, dropout=0.5)), []
    encoder.dropout.register_forward_hook(lambda module, given, found: dropped.append(tuple(found.shape)))
    encoder(torch.randint(5, 31, (2, 6)))
    assert dropped == [(2, 6, 5, 8), (2, 6, 8), (2, 6, 8)]


def test_dropout_never_drops_the_stream():
    """With everything dropped that the layers add, the joined embeddings are left."""
    encoder, ids, calls = random_model(CONFIG).encoder, torch.randint(5, 31, (2, 6)), iter([1.0, 0.0, 0.0])
    encoder.dropout.register_forward_hook(lambda module, given, found: found * next(calls))
    joined = encoder.join(encoder.embedding_norm(encoder.embedding(windows(ids, CONFIG.window))).flatten(2))
    assert torch.allclose(encoder(ids), encoder.final_norm(joined), rtol=0, atol=1e-12)


def test_weights_start_with_the_transformers_spread():
    """0.02, and smaller by sqrt(2 layers) where a layer writes into the stream."""
    torch.manual_seed(0)
    encoder = WindowEncoder(replace(CONFIG, vocabulary_size=500, width=64, feed_forward_width=128))
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 2:
            expected = 0.02 / (2 if name.endswith("down.weight") else 1)  # two layers
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
