"""The masked-word head, its loss, and the model that joins it to the encoder; the label head and its model.

Letters: B batch, T tokens, K chosen positions, N = B*K targets, E embedding width, V vocabulary, C labels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.block import INITIAL_STD, make_norm, product_format
from llm_lab.model.encoder import Encoder
from llm_lab.model.recurrent import RecurrentEncoder
from llm_lab.model.window import WindowEncoder

IGNORED = -100  # a target that counts for nothing
POOLING = ("mean", "first", "each")  # what a label is given to: a row by its mean or its first token, or a token
CHUNK = 256  # targets whose logits are computed together
ENCODERS: dict[str, type[Encoder] | type[RecurrentEncoder] | type[WindowEncoder]] = {
    "transformer": Encoder,
    "rnn": RecurrentEncoder,
    "lstm": RecurrentEncoder,
    "bilstm": RecurrentEncoder,
    "window": WindowEncoder,
}


class MaskedWordHead(nn.Module):
    """One vector -> a score for each word: how much it is like the word's own embedding (tied weights)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width, bias=config.biases)
        self.norm = make_norm(config)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        nn.init.normal_(self.dense.weight, std=INITIAL_STD)
        if config.biases:
            nn.init.zeros_(self.dense.bias)

    def features(self, x: Tensor) -> Tensor:
        """x (..., E) -> (..., E): what is held against the embeddings."""
        return self.norm(F.gelu(self.dense(x)))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (..., E), embedding (V, E) -> logits (..., V)."""
        return F.linear(self.features(x), embedding, self.bias)


class MaskedLanguageModel(nn.Module):
    """An encoder that guesses hidden words; BERT's task (arXiv 1810.04805), by default on ModernBERT's architecture."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = ENCODERS[config.architecture](config)
        self.head = MaskedWordHead(config)

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> logits (B, T, V), or (B, K, V) at `positions` (B, K): the same numbers for less work."""
        return self.head(self.encoder(ids, mask, positions), self.encoder.embedding.weight)

    def loss_sum(self, ids: Tensor, positions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The sum of -log p(target) over targets (B, K) at positions (B, K) of ids (B, T), in nats.

        A target of -100 counts for nothing. `mask` (B, T) is True at the tokens that others may attend to.
        """
        features = self.head.features(self.encoder(ids, mask, positions)).flatten(0, 1)
        cross_entropy = chunked_cross_entropy if ids.device.type == "cpu" else plain_cross_entropy
        return cross_entropy(features, self.encoder.embedding.weight, self.head.bias, targets.flatten())


def plain_cross_entropy(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log softmax(features weight^T + bias)[target], as the formula says.

    features (N, E), weight (V, E), bias (V,), targets (N,) with -100 for none.
    """
    logits = F.linear(features, weight, bias).to(bias.dtype)  # the parameters' precision, also under autocast
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def chunked_cross_entropy(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The same, a few targets at a time, so that the V logits of a target never leave the processor's cache.

    The gradient, softmax minus one-hot, is made along the way: on a CPU this halves the time of a vocabulary of 8,192.
    Under autocast the products run in its format; all else, the weight's gradient too, stays in the inputs' own.
    """
    dtype = product_format(features)
    with torch.autocast(features.device.type, enabled=False):
        return _ChunkedCrossEntropy.apply(features, weight, bias, targets, dtype)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        rows, w = features.to(dtype), weight.to(dtype)
        d_rows, d_weight, d_bias = torch.empty_like(rows), torch.zeros_like(weight), torch.zeros_like(bias)
        total = torch.zeros((), dtype=bias.dtype)
        for x, d_x, target in zip(*(t.split(CHUNK) for t in (rows, d_rows, targets)), strict=True):
            p = F.linear(x, w).to(bias.dtype).add_(bias).softmax(dim=-1)  # (C, V)
            counts = (target != IGNORED)[:, None]
            target = target.clamp(min=0)[:, None]
            total -= p.gather(1, target).clamp(min=1e-37).log().mul(counts).sum()
            p.scatter_add_(1, target, p.new_full(target.shape, -1.0)).mul_(counts)
            d_bias += p.sum(dim=0)
            p = p.to(dtype)
            torch.mm(p, w, out=d_x)
            d_weight += p.T @ x
        ctx.save_for_backward(d_rows.to(features.dtype), d_weight, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        d_features, d_weight, d_bias = ctx.saved_tensors
        return d_features * upstream[0], d_weight * upstream[0], d_bias * upstream[0], None, None


def mean_vector(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of each row's real tokens: x (B, T, E), mask (B, T) False at padding -> (B, E)."""
    if mask is None:
        return x.mean(dim=1)
    real = mask[..., None].to(x.dtype)
    return (x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


class Classifier(nn.Module):
    """A linear layer on the encoder's vectors: of a row's mean, of its first token ([CLS]), or of each chosen token."""

    def __init__(self, config: ModelConfig, num_labels: int, pooling: str = "mean"):
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"pooling is {pooling!r}: choose one of {', '.join(POOLING)}.")
        self.config, self.pooling = config, pooling
        self.encoder = ENCODERS[config.architecture](config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.width, num_labels)
        nn.init.normal_(self.output.weight, std=INITIAL_STD)
        nn.init.zeros_(self.output.bias)

    def vectors(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """What the linear layer reads: ids (B, T) -> (B, K, E), with K = 1 for a row's one vector."""
        if self.pooling == "mean":
            return mean_vector(self.encoder(ids, mask), mask)[:, None]
        return self.encoder(ids, mask, positions if self.pooling == "each" else torch.zeros_like(ids[:, :1]))

    def forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """ids (B, T), positions (B, K) -> logits (B, K, C). A row's one label stands at K = 1, whatever its position.

        `mask` (B, T) is True at real tokens; None means that there is no padding.
        """
        return self.output(self.dropout(self.vectors(ids, mask, positions)))

    def loss_sum(self, ids: Tensor, positions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The sum of -log p(label) over targets (B, K), in nats; a target of -100 counts for nothing."""
        logits = self(ids, mask, positions).float().flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes; the tied embedding counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
