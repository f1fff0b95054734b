"""Which tokens are hidden, and what stands in their place: pure functions of the ids and of uniform noise.

Letters: B rows, T tokens of a row, K targets of a row. Labels are -100 where there is nothing to predict, PyTorch's
default `ignore_index`. The noise comes from a generator (`random_noise`) or, in training, from the triple
(seed, epoch, row) (`row_noise`), so that the masks of a row don't depend on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from llm_lab.config import MaskingConfig

IGNORED = -100
NOISE_KINDS = 3  # for choosing targets, for choosing what replaces them, and for drawing random words


class MaskedRows(NamedTuple):
    """`inputs` (B, T): what the model sees. `labels` (B, T): the hidden token at a target, -100 elsewhere."""

    inputs: torch.Tensor
    labels: torch.Tensor


def random_noise(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Uniform numbers in [0, 1), shape (3, B, T): all the chance that masking one batch needs."""
    return torch.rand(NOISE_KINDS, *shape, generator=generator)


def row_noise(seed: int, epoch: np.ndarray, row: np.ndarray, length: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), shape (3, B, T), each a function of (seed, epoch, row, position) alone.

    `epoch` and `row` have shape (B,). A hash replaces the generator: SplitMix64's finalizer (Steele et al. 2014,
    doi 10.1145/2660193.2660195) stirs one number into the next.
    """
    state = _stir(np.full(len(row), seed, np.uint64))
    state = _stir(state ^ epoch.astype(np.uint64))
    state = _stir(state ^ row.astype(np.uint64))
    counter = np.arange(NOISE_KINDS * length, dtype=np.uint64).reshape(NOISE_KINDS, 1, length)
    bits = _stir(state[None, :, None] ^ _stir(counter))
    return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))  # 24 bits fill a float32


def _stir(x: np.ndarray) -> np.ndarray:
    """SplitMix64: a bijection of 64-bit numbers that leaves no visible pattern. Overflow is meant."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def choose_targets(ids: torch.Tensor, config: MaskingConfig, special_ids: Sequence[int], noise: torch.Tensor):
    """True at the tokens that the model must predict, (B, T) bool. Special tokens are never chosen.

    `noise` is uniform, (B, T). `exact` takes the same share of each row, rounded, and at least one token if the row has
    one to take: the positions with the smallest noise. `bernoulli` takes each token by itself.
    """
    eligible = ~torch.isin(ids, torch.tensor(tuple(special_ids)))
    if config.selection == "bernoulli":
        return eligible & (noise < config.rate)
    available = eligible.sum(dim=1, keepdim=True)
    wanted = (available.double() * config.rate).round().long().clamp(min=1)
    rank = noise.masked_fill(~eligible, 2.0).argsort(dim=1).argsort(dim=1)  # 0 for the smallest noise of the row
    return eligible & (rank < wanted)


def corrupt(
    ids: torch.Tensor,
    targets: torch.Tensor,
    scheme: str,
    mask_id: int,
    special_ids: Sequence[int],
    vocabulary_size: int,
    noise: torch.Tensor,
) -> torch.Tensor:
    """What the model sees, (B, T): [MASK] at every target (`pure`), or BERT's mixture (`80/10/10`).

    The mixture shows [MASK] at 80% of the targets, a random word at 10%, and the word itself at 10%. `noise` is
    uniform, (2, B, T): one draw decides among the three, the other draws the random word, never a special token.
    """
    if scheme == "pure":
        return ids.masked_fill(targets, mask_id)
    decision, draw = noise
    words = torch.tensor(sorted(set(range(vocabulary_size)) - set(special_ids)))
    random_words = words[(draw.double() * len(words)).long()]
    seen = torch.where(targets & (decision < 0.8), mask_id, ids)
    return torch.where(targets & (decision >= 0.8) & (decision < 0.9), random_words, seen)


def mask_tokens(
    ids: torch.Tensor,
    config: MaskingConfig,
    mask_id: int,
    special_ids: Sequence[int],
    vocabulary_size: int,
    noise: torch.Tensor,
) -> MaskedRows:
    """Hide tokens of `ids` (B, T) and keep them as labels. `noise` (3, B, T) is uniform in [0, 1)."""
    targets = choose_targets(ids, config, special_ids, noise[0])
    inputs = corrupt(ids, targets, config.scheme, mask_id, special_ids, vocabulary_size, noise[1:])
    return MaskedRows(inputs, ids.masked_fill(~targets, IGNORED))


def gather_targets(labels: torch.Tensor, width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense labels (B, T) -> the targets alone: positions (B, K) and labels (B, K).

    K is `width`, or the most targets of a row; a row with fewer is filled up with position 0 and label -100. The model
    then computes logits at K positions instead of T. Raises ValueError when a row has more targets than `width`.
    """
    is_target = labels != IGNORED
    counts = is_target.sum(dim=1)
    most = int(counts.max()) if len(counts) else 0
    width = max(most, 1) if width is None else width
    if most > width:
        raise ValueError(f"a row has {most} targets, but there is room for {width} only.")
    positions = is_target.long().argsort(dim=1, descending=True, stable=True)[:, :width]
    filler = torch.arange(width) >= counts[:, None]
    return positions.masked_fill(filler, 0), labels.gather(1, positions).masked_fill(filler, IGNORED)
