"""The model on a GPU against itself on the CPU in fp64: outputs, losses and gradients, by format."""

import copy

import pytest
import torch

from llm_lab.config import ModelConfig
from llm_lab.model.attention import attention, attention_fused, attention_loops
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.train.precision import autocast

# Relative to the largest number of a tensor. fp64 and fp32 as everywhere in the course. Half formats: what rounding
# each product to 8 or 11 bits costs, measured on an H100 and tripled; a wrong kernel is off by the numbers themselves.
TOLERANCE = {"fp64": 1e-10, "fp32": 1e-5, "bf16": 6e-2, "fp16": 1e-2}
SMALL = {"width": 64, "num_layers": 2, "num_heads": 4, "feed_forward_width": 96, "max_length": 32}
KINDS = {
    "default": {},
    "BERT": {"positions": "learned", "norm_place": "post", "feed_forward": "gelu", "biases": True},
    "ALiBi": {"positions": "alibi"},
    "no positions, RMSNorm": {"positions": "none", "norm_kind": "rms"},
    "BiLSTM": {"architecture": "bilstm"},
    "RNN": {"architecture": "rnn"},
    "window": {"architecture": "window"},
}


def close(measured, exact, precision, floor=1e-30):
    """Equal to a part of the largest number, or of `floor` if that is larger."""
    error = (measured.detach().cpu().double() - exact).abs().max() / exact.abs().max().clamp(min=floor)
    assert error < TOLERANCE[precision], float(error)


def problem(kind, seed=0):
    """A model in fp64 and a batch with padding and unused targets."""
    torch.manual_seed(seed)
    model = MaskedLanguageModel(ModelConfig(vocabulary_size=300, **SMALL, **KINDS[kind])).double()
    ids = torch.randint(10, 300, (6, 32))
    mask = torch.arange(32) < torch.tensor([32, 31, 20, 9, 32, 4])[:, None]
    positions = torch.stack([torch.randperm(4)[:3] for _ in range(6)]).sort().values
    targets = torch.randint(10, 300, (6, 3))
    targets[2, 1] = -100
    return model, (ids.masked_fill(~mask, 0), positions, targets, mask)


def loss_and_gradients(model, batch):
    """The summed loss, and each parameter's gradient."""
    loss = model.loss_sum(*batch)
    return loss, torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
def test_loss_and_gradients_are_the_cpus(cuda, kind, precision):
    model, batch = problem(kind)
    loss, gradients = loss_and_gradients(model, batch)
    there = copy.deepcopy(model).to(cuda)
    there = there if precision == "fp64" else there.float()
    with autocast(cuda, "fp32" if precision == "fp64" else precision):
        measured, slopes = loss_and_gradients(there, [x.to(cuda) for x in batch])
    close(measured, loss.detach(), precision)
    if precision == "bf16":  # single numbers lose their digits, the direction of the whole stays
        mine, exact = (torch.cat([x.cpu().double().flatten() for x in all_of]) for all_of in (slopes, gradients))
        assert mine @ exact / (mine.norm() * exact.norm()) > 0.999
        return
    largest = max(float(exact.abs().max()) for exact in gradients)
    for mine, exact in zip(slopes, gradients, strict=True):
        close(mine, exact, precision, floor=0.01 * largest)  # the gradient of BERT's key bias is zero but for rounding


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_compiled_loss_is_the_plain_one(cuda, precision):
    model, batch = problem("default")
    model, batch = model.float().to(cuda), [x.to(cuda) for x in batch]
    loss, gradients = loss_and_gradients(copy.deepcopy(model).double(), batch)
    with autocast(cuda, precision):
        compiled = torch.compile(model.loss_sum)(*batch)
    slopes = torch.autograd.grad(compiled, list(model.parameters()))
    close(compiled, loss.detach().cpu(), precision)
    whole = torch.cat([x.flatten() for x in gradients]).cpu()
    error = torch.cat([x.flatten() for x in slopes]).cpu().double() - whole
    assert error.norm() / whole.norm() < TOLERANCE[precision]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_kernel_is_the_formula(cuda, dtype, masked, biased):
    precision = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 12, 16, dtype=torch.float64).to(dtype) for _ in range(3))
    mask = torch.rand(2, 1, 12, 12) < 0.5 if masked else None
    if mask is not None:
        mask[0, 0, 3] = False  # a query without any source yields zeros
    bias = torch.randn(2, 12, 12, dtype=torch.float64).to(dtype) if biased else None
    exact = attention_loops(*(x.double() for x in (query, key, value)), mask, None if bias is None else bias.double())
    there = [None if x is None else x.to(cuda) for x in (query, key, value, mask, bias)]
    for function in (attention_fused, attention):
        found = function(*there)
        close(found, exact, precision)
        assert mask is None or not found[0, :, 3].any()


def test_padding_changes_nothing_that_is_read(cuda):
    model, (ids, positions, _, mask) = problem("default")
    model = model.float().to(cuda)
    with torch.no_grad():
        padded = model(ids.to(cuda), mask.to(cuda), positions.to(cuda))
        for row in range(len(ids)):
            length = int(mask[row].sum())
            alone = model(ids[row : row + 1, :length].to(cuda), positions=positions[row : row + 1].to(cuda))
            assert torch.allclose(padded[row], alone[0], atol=1e-4)
