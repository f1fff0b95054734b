"""The label head: pooling by loops, padding that counts for nothing, the loss by hand."""

import math

import pytest
import torch

from llm_lab.config import ModelConfig
from llm_lab.model.heads import Classifier, mean_vector

ARCHITECTURES = ("transformer", "bilstm", "window")


def make(pooling, architecture="transformer", dropout=0.0):
    torch.manual_seed(0)
    config = ModelConfig(30, 16, 2, 2, 24, max_length=32, architecture=architecture, dropout=dropout)
    model = Classifier(config, 4, pooling).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def batch():
    """Two rows, the second with three places of padding."""
    ids = torch.randint(5, 30, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    return ids.masked_fill(~mask, 0), mask, torch.tensor([[1, 4], [3, 0]])


def test_the_mean_is_over_real_tokens():
    x = torch.randn(2, 5, 3)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    expected = torch.stack([sum(x[0, t] for t in range(5)) / 5, (x[1, 0] + x[1, 1]) / 2])
    assert torch.allclose(mean_vector(x, mask), expected, atol=1e-6)
    assert torch.allclose(mean_vector(x, None), x.mean(dim=1))
    assert mean_vector(x, torch.zeros_like(mask)).abs().max() == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooling", ["mean", "first", "each"])
def test_logits_row_by_row(batch, pooling, architecture):
    """The head on the vectors of each row alone, without padding."""
    ids, mask, positions = batch
    model = make(pooling, architecture)
    logits = model(ids, mask, positions)
    for row, length in enumerate((7, 4)):
        x = model.encoder(ids[row : row + 1, :length])[0]
        chosen = {"mean": [x.mean(dim=0)], "first": [x[0]], "each": [x[p] for p in positions[row]]}[pooling]
        for k, vector in enumerate(chosen):
            expected = model.output.weight @ vector + model.output.bias
            assert torch.allclose(logits[row, k], expected, atol=1e-12)
        assert len(logits[row]) == len(chosen)


def test_what_stands_at_padding_changes_nothing(batch):
    ids, mask, positions = batch
    model = make("mean")
    other = ids.masked_fill(~mask, 17)
    assert torch.allclose(model(ids, mask, positions), model(other, mask, positions), atol=1e-12)
    assert not torch.allclose(model(ids, None, positions), model(other, None, positions), atol=1e-3)


def test_the_loss_is_a_sum_over_targets(batch):
    ids, mask, positions = batch
    model = make("each")
    targets = torch.tensor([[2, -100], [0, 3]])
    logits = model(ids, mask, positions).tolist()
    expected = 0.0
    for row, k, target in ((0, 0, 2), (1, 0, 0), (1, 1, 3)):
        expected -= logits[row][k][target] - math.log(sum(math.exp(z) for z in logits[row][k]))
    assert model.loss_sum(ids, positions, targets, mask).item() == pytest.approx(expected, rel=1e-6)


def test_dropout_acts_in_training_alone(batch):
    model = make("mean", dropout=0.5)
    assert torch.equal(model(*batch), model(*batch))
    model.train()
    assert not torch.equal(model(*batch), model(*batch))
    model.encoder.eval()  # the new layer's own
    assert not torch.equal(model(*batch), model(*batch))


def test_the_first_logits_are_small_and_an_unknown_pooling_is_refused(batch):
    model = Classifier(ModelConfig(30, 16, 2, 2, 24), 4).eval()
    assert model(*batch).abs().max() < 0.5 and (model.output.bias == 0).all()
    with pytest.raises(ValueError, match="pooling is 'max': choose one of mean, first, each"):
        Classifier(ModelConfig(30, 16, 2, 2, 24), 4, "max")
