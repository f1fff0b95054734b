"""The head: its formula, tied weights, and the count of parameters. Equality with transformers: test_encoder.py."""

import math

import torch

from llm_lab.config import ModelConfig
from llm_lab.model.heads import MaskedLanguageModel, MaskedWordHead, count_parameters

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
