"""Recurrent models: PyTorch's own on packed sequences, the formula word by word, who sees what, and padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from llm_lab.config import ModelConfig
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.model.recurrent import RecurrentEncoder, RecurrentLayer, lstm_loops, reverse_rows, rnn_loops
from tests.model.test_block import normalised
from tests.model.test_encoder import random_model, right_padding

CONFIG = ModelConfig(vocabulary_size=31, width=8, num_layers=2, num_heads=2, max_length=12, architecture="bilstm")
KINDS = ("rnn", "lstm", "bilstm")


def pairs_of(ours, twin):
    """Our parameters beside those of PyTorch's module, in which the backward ones are called _reverse."""
    pairs = [(p, getattr(twin, name)) for name, p in ours.ahead.named_parameters()]
    back = [] if ours.back is None else ours.back.named_parameters()
    return pairs + [(p, getattr(twin, f"{name}_reverse")) for name, p in back]


def torch_twin(ours, kind):
    """PyTorch's module of this kind with our weights."""
    module = nn.RNN if kind == "rnn" else nn.LSTM
    twin = module(8, 8, batch_first=True, bidirectional=kind == "bilstm").double()
    with torch.no_grad():
        for our, their in pairs_of(ours, twin):
            their.copy_(our)
    assert len(pairs_of(ours, twin)) == len(list(twin.parameters()))
    return twin


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_a_layer_equals_torchs_with_packed_sequences_forward_and_backward(kind, lengths, seed):
    torch.manual_seed(seed)
    ours = RecurrentLayer(8, kind).double()
    twin = torch_twin(ours, kind)
    lengths = torch.tensor(lengths)
    x = torch.randn(len(lengths), int(lengths.max()), 8, dtype=torch.float64, requires_grad=True)
    theirs_x = x.detach().clone().requires_grad_()
    packed = pack_padded_sequence(theirs_x, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(twin(packed)[0], batch_first=True)[0]
    words = torch.arange(x.shape[1]) < lengths[:, None]
    found = ours.directions(x, lengths)
    assert torch.allclose(found[words], expected[words], rtol=0, atol=1e-10)
    upstream = torch.randn(found[words].shape, dtype=torch.float64)
    (found[words] * upstream).sum().backward()
    (expected[words] * upstream).sum().backward()
    for one, other in [(x, theirs_x), *pairs_of(ours, twin)]:
        assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-10)
    assert torch.equal(ours(x, lengths), ours.output(ours.directions(x, lengths)))


def test_the_fast_lstm_is_its_formula():
    torch.manual_seed(0)
    lstm = nn.LSTM(8, 8, batch_first=True).double()
    x = torch.randn(3, 7, 8, dtype=torch.float64)
    assert torch.allclose(lstm_loops(lstm, x), lstm(x)[0], rtol=0, atol=1e-12)


def test_the_fast_rnn_is_its_formula():
    torch.manual_seed(0)
    rnn = nn.RNN(8, 8, batch_first=True).double()
    x = torch.randn(3, 7, 8, dtype=torch.float64)
    assert torch.allclose(rnn_loops(rnn, x), rnn(x)[0], rtol=0, atol=1e-12)


def test_rows_are_reversed_within_their_words():
    x = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0], [8, 0, 9, 9], [1, 2, 3, 4]])[..., None]
    turned = reverse_rows(x, torch.tensor([4, 3, 1, 0]))
    assert turned[..., 0].tolist() == [[4, 3, 2, 1], [7, 6, 5, 0], [8, 0, 9, 9], [1, 2, 3, 4]]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_word_and_gets_no_gradient(kind):
    model = random_model(replace(CONFIG, architecture=kind))
    ids, mask = torch.randint(5, 31, (4, 10)), right_padding(4, 10)
    other = torch.where(mask, ids, torch.randint(5, 31, (4, 10)))
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(model(ids, mask)[mask], model(other, mask)[mask])
    for row, length in enumerate(mask.sum(1).tolist()):
        assert torch.allclose(model(ids, mask)[row, :length], model(ids[row : row + 1, :length])[0], rtol=0, atol=1e-12)
    words = torch.where(mask, ids.clamp(max=29), 30)  # 30 stands at padding alone
    model.encoder(words, mask)[mask].square().sum().backward()
    assert (model.encoder.embedding.weight.grad[30] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_reads_the_normalised_stream_and_adds_to_it(kind):
    encoder, lengths = random_model(replace(CONFIG, architecture=kind)).encoder, torch.tensor([9, 4])
    ids, mask = torch.randint(5, 31, (2, 9)), torch.arange(9) < lengths[:, None]
    x = normalised(encoder.embedding.weight[ids], encoder.embedding_norm.weight)
    x = x + encoder.layers[0](x, lengths)
    x = x + encoder.layers[1](normalised(x, encoder.norms[1].weight), lengths)
    assert torch.allclose(encoder(ids, mask), normalised(x, encoder.final_norm.weight), rtol=0, atol=1e-10)


def test_a_full_mask_is_no_mask():
    encoder, ids = random_model(CONFIG).encoder, torch.randint(5, 31, (3, 9))
    assert torch.equal(encoder(ids, torch.ones(3, 9, dtype=torch.bool)), encoder(ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True])
def test_chosen_positions_are_those_of_the_full_output(padded, kind):
    encoder, ids = random_model(replace(CONFIG, architecture=kind)).encoder, torch.randint(5, 31, (3, 9))
    mask = right_padding(3, 9) if padded else None
    positions = torch.tensor([[0, 8, 3], [2, 2, 0], [8, 7, 6]])
    assert torch.equal(encoder(ids, mask, positions), encoder(ids, mask)[torch.arange(3)[:, None], positions])


@pytest.mark.parametrize("num_layers", [1, 2])
def test_every_word_of_a_row_moves_every_output_of_this_row_alone(num_layers):
    encoder = random_model(replace(CONFIG, num_layers=num_layers)).encoder
    ids = torch.randint(5, 30, (2, 8))
    before = encoder(ids)
    for place in range(8):
        changed = ids.clone()
        changed[0, place] = 30
        moved = (encoder(changed) - before).abs().amax(dim=-1)
        assert (moved[0] > 1e-9).all() and (moved[1] == 0).all(), place


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_one_direction_sees_nothing_to_the_right_and_all_to_the_left(kind, num_layers):
    encoder = random_model(replace(CONFIG, architecture=kind, num_layers=num_layers), scale=0.2).encoder
    ids = torch.randint(5, 30, (2, 8))
    before = encoder(ids)
    for place in range(8):
        changed = ids.clone()
        changed[0, place] = 30
        after = encoder(changed)
        assert torch.equal(after[0, :place], before[0, :place]) and torch.equal(after[1], before[1])
        assert ((after - before)[0, place:].abs().amax(dim=-1) > 1e-9).all(), place


@pytest.mark.parametrize(("kind", "directions", "gates"), [("rnn", 1, 1), ("lstm", 1, 4), ("bilstm", 2, 4)])
def test_all_parameters_get_a_gradient_and_are_as_many_as_the_formula_says(kind, directions, gates):
    model = random_model(replace(CONFIG, architecture=kind))
    model.loss_sum(torch.randint(5, 31, (3, 9)), torch.tensor([[1, 4]] * 3), torch.tensor([[7, 8]] * 3)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    v, e, n = CONFIG.vocabulary_size, CONFIG.width, CONFIG.num_layers
    layer = directions * gates * (2 * e * e + 2 * e) + directions * e * e + e
    assert count_parameters(model) == v * e + e + n * layer + (e * e + e + v)


def test_the_names_of_the_weights_are_those_of_saved_models():
    names = {f"encoder.layers.{i}.{part}" for i in range(2) for part in ("ahead", "back", "output")}
    state = MaskedLanguageModel(CONFIG).state_dict()
    assert {name.rpartition(".")[0] for name in state if ".layers." in name} == names
    for part in ("ahead", "back"):
        kept = {name.rpartition(".")[2] for name in state if f"layers.0.{part}." in name}
        assert kept == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}


@pytest.mark.parametrize(("kind", "count"), [("lstm", 2), ("bilstm", 4)])
def test_forget_gates_start_open(kind, count):
    encoder = RecurrentEncoder(replace(CONFIG, architecture=kind))
    found = [module for module in encoder.modules() if isinstance(module, nn.LSTM)]
    assert len(found) == count
    for lstm in found:
        gates = (lstm.bias_ih_l0 + lstm.bias_hh_l0).chunk(4)
        assert (gates[1] == 1).all() and all((gate.abs() < 1).all() for gate in (gates[0], gates[2], gates[3]))


def test_embeddings_start_with_the_published_spread():
    torch.manual_seed(0)
    encoder = RecurrentEncoder(replace(CONFIG, vocabulary_size=500, width=64))
    assert encoder.embedding.weight.std().item() == pytest.approx(0.02, rel=0.03)


def test_a_row_of_padding_alone_is_finite():
    model = random_model(CONFIG)
    logits = model(torch.randint(5, 31, (2, 5)), torch.tensor([[True] * 5, [False] * 5]))
    logits.sum().backward()
    assert logits.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters())


def test_padding_before_a_word_is_refused():
    encoder, ids = RecurrentEncoder(CONFIG), torch.randint(5, 31, (2, 3))
    with pytest.raises(
        ValueError, match="a row has padding before a word: a recurrent model needs all padding at the row's end"
    ):
        encoder(ids, torch.tensor([[True, True, True], [True, False, True]]))


def test_a_row_longer_than_the_model_is_refused():
    encoder = RecurrentEncoder(CONFIG)
    assert encoder(torch.zeros(1, 12, dtype=torch.long)).shape == (1, 12, 8)
    with pytest.raises(ValueError, match="a row of 13 tokens is longer than this model's 12: shorten it"):
        encoder(torch.zeros(1, 13, dtype=torch.long))


def test_dropout_acts_in_training_alone():
    model, ids = random_model(replace(CONFIG, dropout=0.5)), torch.randint(5, 31, (2, 6))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))


def test_dropout_acts_on_the_embeddings_and_on_what_each_layer_adds():
    encoder, dropped = RecurrentEncoder(replace(CONFIG, dropout=0.5)), []
    encoder.dropout.register_forward_hook(lambda module, given, found: dropped.append(tuple(found.shape)))
    encoder(torch.randint(5, 31, (2, 6)))
    assert dropped == [(2, 6, 8), (2, 6, 8), (2, 6, 8)]


def test_dropout_never_drops_the_stream():
    """With everything dropped that the layers add, the embeddings are left."""
    encoder, ids, calls = random_model(CONFIG).encoder, torch.randint(5, 31, (2, 6)), iter([1.0, 0.0, 0.0])
    encoder.dropout.register_forward_hook(lambda module, given, found: found * next(calls))
    embedded = normalised(encoder.embedding.weight[ids], encoder.embedding_norm.weight)
    assert torch.allclose(encoder(ids), normalised(embedded, encoder.final_norm.weight), rtol=0, atol=1e-10)


def test_under_autocast_the_gradients_of_weights_stay_in_fp32():
    torch.manual_seed(0)
    model = MaskedLanguageModel(CONFIG)
    ids, positions, targets = torch.randint(5, 31, (4, 6)), torch.arange(6).expand(4, 6), torch.randint(5, 31, (4, 6))
    precise = model.loss_sum(ids, positions, targets)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss_sum(ids, positions, targets)
    except RuntimeError as error:  # with AVX2 alone; the package computes in fp32 there
        pytest.skip(f"PyTorch has no bf16 LSTM for this processor: {error}")
    loss.backward()
    assert loss.item() == pytest.approx(precise.item(), rel=0.01)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
