"""LoRA: starts as the layer, learns in its own numbers only, and merges into the same function."""

import pytest
import torch
from torch import nn

from llm_lab.config import BERT_SHAPE, ModelConfig
from llm_lab.model.encoder import Encoder
from llm_lab.model.lora import ALPHA, LoraLinear, add_lora, merge_lora
from llm_lab.model.recurrent import RecurrentEncoder

IDS = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(0))


def encoder(**changes):
    torch.manual_seed(0)
    kind = RecurrentEncoder if "architecture" in changes else Encoder
    return kind(ModelConfig(30, 16, 2, 2, 24, max_length=32, **changes)).double().eval()


def shaken(model):
    """The same module with its corrections away from zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".a", ".b")):
                parameter.normal_(std=0.3)
    return model


def test_the_correction_is_the_formula():
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(6, 4).double(), rank=2)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["a", "b"]
    layer.b.data.normal_()
    x = torch.randn(5, 6, dtype=torch.double)
    for n in range(5):
        product = [sum(layer.b[o, r] * layer.a[r, i] for r in range(2)) for o in range(4) for i in range(6)]
        weight = layer.layer.weight + ALPHA / 2 * torch.stack(product).view(4, 6)
        assert torch.allclose(layer(x)[n], weight @ x[n] + layer.layer.bias, atol=1e-12)


def test_it_starts_as_the_layer_alone_and_has_few_numbers_that_learn():
    plain = encoder()
    before = plain(IDS)
    matrices = sum(isinstance(module, nn.Linear) for module in plain.modules())
    corrected = add_lora(encoder(), rank=3)
    assert torch.equal(corrected(IDS), before)
    trained = {name: p for name, p in corrected.named_parameters() if p.requires_grad}
    assert all(name.endswith((".a", ".b")) for name in trained) and len(trained) == 2 * matrices == 2 * 2 * 7
    # per block 4 matrices of 16 x 16, two of 24 x 16, one of 16 x 24
    assert sum(p.numel() for p in trained.values()) == 2 * 3 * (4 * (16 + 16) + 3 * (24 + 16))


def test_only_the_correction_gets_a_gradient_and_it_can_start():
    corrected = add_lora(encoder(), rank=3)
    corrected(IDS).square().sum().backward()
    moved = {name for name, p in corrected.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {name for name, _ in corrected.named_parameters() if name.endswith(".b")}  # A waits for B


@pytest.mark.parametrize("changes", [{}, BERT_SHAPE, {"convolution": 3}, {"architecture": "bilstm"}], ids=str)
def test_merged_weights_give_equal_vectors(changes):
    plain = encoder(**changes)
    corrected = shaken(add_lora(encoder(**changes), rank=4))
    wanted = corrected(IDS)
    assert (wanted - plain(IDS)).abs().max() > 0.1
    merged = merge_lora(corrected)
    assert (merged(IDS) - wanted).abs().max() < 1e-10
    assert {name: p.shape for name, p in merged.state_dict().items()} == {
        name: p.shape for name, p in plain.state_dict().items()
    }
    assert not any(isinstance(module, LoraLinear) for module in merged.modules())
    changed = {name for name, p in merged.state_dict().items() if not torch.equal(p, plain.state_dict()[name])}
    linear = {f"{name}.weight" for name, module in plain.named_modules() if isinstance(module, nn.Linear)}
    assert changed == linear


def test_what_can_not_be_corrected_is_refused():
    with pytest.raises(ValueError, match="the rank is 0: give at least 1"):
        add_lora(encoder(), 0)
    with pytest.raises(ValueError, match="there is no linear layer"):
        add_lora(nn.Embedding(3, 4), 2)
