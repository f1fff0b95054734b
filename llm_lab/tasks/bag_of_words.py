"""What counting words can do: TF-IDF and logistic regression, the baseline that a fine-tuned model has to beat.

Letters: N texts, M terms of all texts together, F features (terms that occur in the training texts), C labels. A term
is a word or two neighbouring words. The regression also fits on any other features, such as a frozen encoder's vectors.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

WORD = re.compile(r"\w+")


class Bags(NamedTuple):
    """Texts as sparse vectors, laid end to end: terms (M,), their weights (M,), where each text starts (N,)."""

    terms: Tensor
    weights: Tensor
    starts: Tensor


class Regression(NamedTuple):
    """Logits are features @ weight + bias; weight (F, C), bias (C,)."""

    weight: Tensor
    bias: Tensor


def terms_of(text: str) -> list[str]:
    """The words of a text in lower case, then its pairs of neighbours.

    >>> terms_of("Returns the array.")
    ['returns', 'the', 'array', 'returns the', 'the array']
    """
    words = WORD.findall(text.lower())
    return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]


class TfIdf:
    """Texts -> vectors of length 1. A term that occurs t times in a text, and in d of N training texts, weighs
    (1 + ln t) (ln((1 + N) / (1 + d)) + 1); terms that are new after training weigh nothing.
    """

    def __init__(self, texts: Sequence[str]):
        found = Counter(term for text in texts for term in set(terms_of(text)))
        self.number = {term: i for i, term in enumerate(sorted(found))}
        self.inverse = {term: math.log((1 + len(texts)) / (1 + d)) + 1 for term, d in found.items()}

    def bags(self, texts: Sequence[str]) -> Bags:
        """The vectors of these texts."""
        terms, weights, starts = list[int](), list[float](), list[int]()
        for text in texts:
            starts.append(len(terms))
            counted = Counter(term for term in terms_of(text) if term in self.number)
            weight = {term: (1 + math.log(t)) * self.inverse[term] for term, t in counted.items()}
            length = math.sqrt(sum(w * w for w in weight.values()))
            terms += [self.number[term] for term in weight]
            weights += [w / length for w in weight.values()]
        return Bags(torch.tensor(terms, dtype=torch.long), torch.tensor(weights), torch.tensor(starts))


def logits(features: Tensor | Bags, model: Regression) -> Tensor:
    """(N, C), from dense features (N, F) or from bags."""
    if isinstance(features, Tensor):
        return features @ model.weight + model.bias
    weights = features.weights.to(model.weight.dtype)
    summed = F.embedding_bag(features.terms, model.weight, features.starts, mode="sum", per_sample_weights=weights)
    return summed + model.bias


def fit_regression(
    features: Tensor | Bags, targets: Tensor, num_features: int, strength: float, iterations: int = 200
) -> Regression:
    """The minimum of strength * sum of -log p(target) + |weight|^2 / 2, by L-BFGS: the problem has only one.

    `strength` is scikit-learn's C: a large one trusts the labels, a small one prefers small weights. targets (N,).
    """
    dtype = features.dtype if isinstance(features, Tensor) else features.weights.dtype
    num_labels = int(targets.max()) + 1
    model = Regression(torch.zeros(num_features, num_labels, dtype=dtype), torch.zeros(num_labels, dtype=dtype))
    for parameter in model:
        parameter.requires_grad_()
    optimizer = torch.optim.LBFGS(list(model), max_iter=iterations, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = F.cross_entropy(logits(features, model), targets, reduction="sum")
        value = strength * nats + model.weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return Regression(*(parameter.detach() for parameter in model))


def accuracy(features: Tensor | Bags, targets: Tensor, model: Regression) -> float:
    """The share of the texts whose best label is right."""
    return (logits(features, model).argmax(dim=-1) == targets).double().mean().item()
