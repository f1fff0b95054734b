"""Minimal pairs: two sentences that differ in one point, one of them right. Does the model prefer the right one?

(Linzen et al. 2016, arXiv 1611.01368; Warstadt et al. 2020, arXiv 1912.00582.) Two scores. *At the hidden place*: the
word that differs is hidden, and log p(right word) - log p(wrong word) must be above 0; for pairs of equally many tokens
that differ in one. *By sentence*: each token is hidden in turn, and the sums of log p(token | all others) are compared
(Salazar et al. 2020, arXiv 1910.14659); for any pair.

The English pairs are our own (data/minimal_pairs.csv). Those of a known language come from its probes, and its oracle
takes the same exam: nobody can do better.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llm_lab import home
from llm_lab.text.language import Language, Probe
from llm_lab.text.optimum import posterior
from llm_lab.text.sentences import framed
from llm_lab.text.tokenizer import Tokenizer

ENGLISH = home.REPOSITORY / "data" / "minimal_pairs.csv"
COLUMNS = ("phenomenon", "right", "wrong")
CHUNK = 64  # rows read together


class Pair(NamedTuple):
    """Two sentences and the point in which they differ."""

    phenomenon: str
    right: str
    wrong: str


def read_pairs(path: Path | str = ENGLISH) -> list[Pair]:
    """The pairs of a CSV file with the columns phenomenon, right, wrong. Raises FileNotFoundError or ValueError."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has the columns {rows.fieldnames}: give it {', '.join(COLUMNS)}.")
        pairs = []
        for row in rows:
            if None in row or not all(row.values()) or row["right"] == row["wrong"]:
                raise ValueError(f"{path}, line {rows.line_num}, is no pair: give two sentences that differ.")
            pairs.append(Pair(**row))
        return pairs


def spelled(pairs: Sequence[Pair], tokenizer: Tokenizer) -> list[Pair]:
    """Those pairs that the vocabulary can spell without [UNK], and as two different rows of tokens."""
    rows = [(tokenizer.encode(pair.right), tokenizer.encode(pair.wrong)) for pair in pairs]
    known = [tokenizer.unknown_id not in right + wrong and right != wrong for right, wrong in rows]
    return [pair for pair, keep in zip(pairs, known, strict=True) if keep]


def place_of_difference(right: Sequence[int], wrong: Sequence[int]) -> int | None:
    """Where two rows of ids differ, if that is one place of rows that are equally long; else None."""
    places = [i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b]
    return places[0] if len(right) == len(wrong) and len(places) == 1 else None


# -- a model's two scores ---------------------------------------------------------------------------------------------


def scores_at_place(model: nn.Module, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> Tensor:
    """log p(right word) - log p(wrong word) at the hidden place, for pairs that differ in one token, (N,), float64.

    NaN for a pair that differs otherwise.
    """
    result = torch.full((len(pairs),), torch.nan, dtype=torch.float64)
    rows = [(tokenizer.encode(pair.right), tokenizer.encode(pair.wrong)) for pair in pairs]
    places = [place_of_difference(*row) for row in rows]
    asked = [i for i, place in enumerate(places) if place is not None]
    hidden = [np.array(rows[i][0]) for i in asked]
    for ids, i in zip(hidden, asked, strict=True):
        ids[places[i]] = tokenizer.mask_id
    log_p = log_guesses_at(model, hidden, [places[i] for i in asked])  # type: ignore[misc]
    for row, i in zip(log_p, asked, strict=True):
        right, wrong = rows[i]
        result[i] = row[right[places[i]]] - row[wrong[places[i]]]  # type: ignore[index]
    return result


def scores_by_sentence(model: nn.Module, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> Tensor:
    """The right sentence's pseudo-log-likelihood minus the wrong one's, (N,), float64."""
    sentences = [tokenizer.encode(text) for pair in pairs for text in (pair.right, pair.wrong)]
    right, wrong = pseudo_log_likelihoods(model, sentences, tokenizer).view(-1, 2).T
    return right - wrong


def pseudo_log_likelihoods(model: nn.Module, rows: Sequence[Sequence[int]], tokenizer: Tokenizer) -> Tensor:
    """The sum of log p(token | all others) over the tokens of each framed row of ids, special ones left out, (N,).

    The mean of minus this over tokens is the logarithm of the pseudo-perplexity.
    """
    hidden, places, tokens, row_of = [], [], [], []
    for number, row in enumerate(rows):
        for place, token in enumerate(row):
            if token not in tokenizer.special_ids:
                hidden.append(np.array(row))
                hidden[-1][place] = tokenizer.mask_id
                places.append(place)
                tokens.append(token)
                row_of.append(number)
    log_p = log_guesses_at(model, hidden, places, tokens)
    return torch.zeros(len(rows), dtype=torch.float64).index_add(0, torch.tensor(row_of, dtype=torch.long), log_p)


@torch.no_grad()
def log_guesses_at(
    model: nn.Module, rows: Sequence[np.ndarray], places: Sequence[int], tokens: Sequence[int] | None = None
) -> Tensor:
    """A model's log-probabilities at one place of each row of ids, (N, V); with `tokens`, of that token alone, (N,).

    Rows of one length are read together, so that nothing is padded.
    """
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: dict[int, Tensor] = {}
    while order:
        length = len(rows[order[0]])
        some = [i for i in order[:CHUNK] if len(rows[i]) == length]
        order = order[len(some) :]
        ids = torch.from_numpy(np.stack([rows[i] for i in some])).long().to(device)
        positions = torch.tensor([[places[i]] for i in some], device=device)
        log_p = model(ids, positions=positions)[:, 0].float().log_softmax(dim=-1).cpu().double()
        if tokens is not None:
            log_p = log_p.gather(1, torch.tensor([[tokens[i]] for i in some]))[:, 0]
        found.update(zip(some, log_p, strict=True))
    return torch.stack([found[i] for i in range(len(rows))]) if len(rows) else torch.zeros(0, dtype=torch.float64)


# -- pairs of a known language ----------------------------------------------------------------------------------------


def probes_by_kind(language: Language, n: int = 100, seed: int = 0) -> dict[str, list[Probe]]:
    """For each kind of dependency n sentences with a word that it decides; those without a wrong word are left out."""
    found = {kind: [p for p in language.probes(kind, n, seed) if p.wrong >= 0] for kind in language.kinds}
    return {kind: probes for kind, probes in found.items() if probes}


def pairs_of(probes: Sequence[Probe], language: Language, kind: str) -> list[Pair]:
    """The probes as pairs of sentences."""
    swapped = [np.where(np.arange(len(p.ids)) == p.position, p.wrong, p.ids) for p in probes]
    return [Pair(kind, language.text_of(p.ids), language.text_of(ids)) for p, ids in zip(probes, swapped, strict=True)]


def oracle_scores(language: Language, probes: Sequence[Probe]) -> Tensor:
    """log P(right word) - log P(wrong word), given all else, (N,): inf where the wrong word can't stand there."""
    p = posterior(language, np.stack([probe.asked() for probe in probes]), rate=0.15)
    row, place = torch.arange(len(probes)), torch.tensor([probe.position for probe in probes])
    right, wrong = (torch.tensor([getattr(probe, name) for probe in probes]) for name in ("right", "wrong"))
    return p[row, place, right].log() - p[row, place, wrong].log()


def model_scores(model: nn.Module, language: Language, probes: Sequence[Probe]) -> Tensor:
    """The model's log p(right word) - log p(wrong word) at the hidden place of each probe, (N,), float64."""
    rows = [row[row != 0] for row in framed(np.stack([probe.asked() for probe in probes]), language.tokenizer)]
    log_p = log_guesses_at(model, rows, [probe.position + 1 for probe in probes])  # [CLS] stands first
    right, wrong = (torch.tensor([[getattr(probe, name)] for probe in probes]) for name in ("right", "wrong"))
    return (log_p.gather(1, right) - log_p.gather(1, wrong))[:, 0]


def preferred(scores: Tensor) -> float:
    """How many scores prefer the right sentence: those above 0, and half of those that are 0."""
    return float((scores > 0).sum() + 0.5 * (scores == 0).sum())
