"""The best possible guess on a known language: exact posterior, floor and excess.

Letters: B sentences, T words of a row, V vocabulary, N targets. All losses are nats a target.

What is seen at a position depends on the word there alone. So P(what is seen) is linear in each position's likelihood,
and its gradient there is what all the *other* positions say about the word: one pass forward, one backward, and every
position has its posterior (Eisner 2016, doi 10.18653/v1/W16-5901).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm_lab.config import MaskingConfig
from llm_lab.text.language import MASK, Language
from llm_lab.text.masking import IGNORED, mask_tokens, random_noise
from llm_lab.text.tokenizer import SPECIAL_TOKENS

CHUNK = 250  # sentences whose charts are in memory together
SHOWN, RANDOM, KEPT = 0.8, 0.1, 0.1  # 80/10/10: what a target looks like


class Estimate(NamedTuple):
    """A mean over targets, in nats, and its standard error, with the sentences as clusters."""

    mean: float
    standard_error: float
    targets: int


def channel(language: Language, observed: Tensor, rate: float, scheme: str, scored: bool) -> Tensor:
    """P(token seen | word there) for every word: observed (B, T) -> (B, T, V).

    `scored` says that the position is known to be a target, as the one that is being guessed is; every other position
    is a target with probability `rate`. The two differ, since a target is shown changed.
    """
    chosen = 1.0 if scored else rate
    size, words = len(language.vocabulary), len(language.words)
    same = torch.nn.functional.one_hot(observed, size).double()
    masked, random, kept = (1.0, 0.0, 0.0) if scheme == "pure" else (SHOWN, RANDOM, KEPT)
    likelihood = same * (1 - chosen + chosen * kept) + chosen * random / words
    return torch.where(observed[..., None] == MASK, chosen * masked, likelihood)


def posterior(
    language: Language, observed: np.ndarray | Tensor, rate: float, scheme: str = "pure", window: Tensor | None = None
) -> Tensor:
    """P(word | all that is seen, if this position is a target) at every position: (B, T) -> (B, T, V), float64.

    `observed` holds ids with [MASK] at hidden words, padded with 0. Under `pure` a word that is seen is no target: it
    gets probability 1. Padding gets zeros. `window` (B, T), True where the guesser may look, leaves the rest unseen.
    Raises ValueError for a sentence that the language can't say.
    """
    observed = torch.as_tensor(observed)
    window = torch.ones_like(observed) if window is None else window
    result = torch.zeros(*observed.shape, len(language.vocabulary), dtype=torch.float64)
    for length, rows in language.by_length(observed):
        for some in rows.split(CHUNK):
            result[some, :length] = _posterior(language, observed[some, :length], window[some, :length], rate, scheme)
    return result


@torch.enable_grad()  # even where a caller has switched gradients off
def _posterior(language: Language, observed: Tensor, window: Tensor, rate: float, scheme: str) -> Tensor:
    likelihood = channel(language, observed, rate, scheme, scored=False)
    likelihood = torch.where(window[..., None].bool(), likelihood, 1.0).requires_grad_()
    evidence = language.evidence(likelihood)
    if not evidence.isfinite().all():
        row = int((~evidence.isfinite()).nonzero()[0, 0])
        raise ValueError(f"the language {language.name} has no sentence {language.text_of(observed[row].tolist())!r}.")
    (others,) = torch.autograd.grad(evidence.sum(), likelihood)  # what all other positions say, up to rounding below 0
    joint = others.clamp(min=0.0) * channel(language, observed, rate, scheme, scored=True)
    if scheme == "pure":
        seen = torch.nn.functional.one_hot(observed, joint.shape[-1]).double()
        joint = torch.where((observed != MASK)[..., None], seen, joint)
    joint[..., : len(SPECIAL_TOKENS)] = 0.0
    return joint / joint.sum(dim=-1, keepdim=True)


def masked_sample(language: Language, masking: MaskingConfig, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n fresh sentences as a model sees them, (n, T), and their labels, (n, T), -100 where nothing is asked."""
    ids = torch.from_numpy(language.sample(n, seed))
    names = language.tokenizer
    noise = random_noise((n, ids.shape[1]), torch.Generator().manual_seed(seed))
    return mask_tokens(ids, masking, names.mask_id, names.special_ids, names.vocabulary_size, noise)


def floor(
    language: Language,
    rate: float = 0.15,
    scheme: str = "pure",
    n: int = 2000,
    seed: int = 0,
    window: int | None = None,
) -> Estimate:
    """The lowest loss that any guesser can reach, over n sentences: the mean entropy of the posterior.

    `window` k gives the floor of a guesser that sees k words to each side, its position and the sentence's length.
    """
    inputs, labels = masked_sample(language, MaskingConfig(rate, scheme, "bernoulli"), n, seed)
    return clustered(*floors(language, inputs, labels, rate, scheme, window))


def floors(
    language: Language, inputs: Tensor, labels: Tensor, rate: float, scheme: str, window: int | None = None
) -> tuple[Tensor, Tensor]:
    """The entropy of the posterior at each target, (N,), and the sentence it belongs to, (N,)."""
    p = best_guesses(language, inputs, labels, rate, scheme, window)
    return torch.special.entr(p).sum(dim=-1), (labels != IGNORED).nonzero()[:, 0]


def best_guesses(
    language: Language, inputs: Tensor, labels: Tensor, rate: float, scheme: str, window: int | None = None
) -> Tensor:
    """The posterior at each target, (N, V), row by row."""
    row, position = (labels != IGNORED).nonzero().T
    if window is None:
        return posterior(language, inputs, rate, scheme)[row, position]
    distance = (torch.arange(inputs.shape[1]) - position[:, None]).abs()
    return posterior(language, inputs[row], rate, scheme, distance <= window)[torch.arange(len(row)), position]


def excess(
    language: Language, inputs: Tensor, labels: Tensor, log_q: Tensor, rate: float = 0.15, scheme: str = "pure"
) -> Estimate:
    """How far guesses are above the floor: the mean KL(best || guess) over the targets of masked sentences (B, T).

    log_q (N, V): the guesser's log-probabilities at the targets, row by row. This is the expected loss minus the floor,
    without the noise of which words happened to be hidden.
    """
    return clustered(*excesses(language, inputs, labels, log_q, rate, scheme))


def excesses(
    language: Language, inputs: Tensor, labels: Tensor, log_q: Tensor, rate: float = 0.15, scheme: str = "pure"
) -> tuple[Tensor, Tensor]:
    """KL(best || guess) at each target, (N,), and the sentence it belongs to, (N,)."""
    p = best_guesses(language, inputs, labels, rate, scheme)
    surprise = torch.where(p > 0, p * log_q.double(), 0.0)  # 0 log 0 = 0, even where log_q is -inf
    return (torch.xlogy(p, p) - surprise).sum(dim=-1), (labels != IGNORED).nonzero()[:, 0]


def clustered(values: Tensor, cluster: Tensor) -> Estimate:
    """The mean of values (N,) with a standard error that lets values of one cluster (N,) depend on each other.

    Words of a sentence are not independent; sentences are (Liang and Zeger 1986, doi 10.1093/biomet/73.1.13).
    """
    mean = values.mean()
    sums = torch.zeros(int(cluster.max()) + 1, dtype=values.dtype).index_add(0, cluster, values - mean)
    clusters = len(cluster.unique())
    correction = clusters / max(clusters - 1, 1)
    return Estimate(float(mean), float((sums.square().sum() * correction).sqrt() / len(values)), len(values))
