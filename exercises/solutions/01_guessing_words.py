"""Right answers to the exercises of lesson 01, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn


def cross_entropy(p, q):
    return -torch.where(p > 0, p * q.log(), 0.0).sum(dim=1)


def cross_entropy_by_xlogy(p, q):
    return -torch.special.xlogy(p, q).sum(dim=1)


def cross_entropy_word_by_word(p, q):
    costs = []
    for truth, guess in zip(p.tolist(), q.tolist(), strict=True):
        surprise = [math.inf if share == 0 else -math.log(share) for share in guess]
        costs.append(sum(t * s for t, s in zip(truth, surprise, strict=True) if t > 0))
    return torch.tensor(costs, dtype=p.dtype)


def softmax(z):
    positive = (z - z.max(dim=1, keepdim=True).values).exp()
    return positive / positive.sum(dim=1, keepdim=True)


def softmax_of_torch(z):
    return torch.softmax(z, dim=1)


def softmax_by_logarithms(z):
    return (z - z.logsumexp(dim=1, keepdim=True)).exp()


def softmax_row_by_row(z):
    rows = []
    for row in z.tolist():
        positive = [math.exp(number - max(row)) for number in row]
        rows.append([number / sum(positive) for number in positive])
    return torch.tensor(rows, dtype=z.dtype)


def one_step(z, p, rate):
    slope = (torch.softmax(z, dim=1) - p) / len(z)
    return z - rate * slope


def one_step_by_autograd(z, p, rate):
    z = z.clone().requires_grad_()
    F.cross_entropy(z, p).backward()
    return z.detach() - rate * z.grad


def one_step_by_an_optimizer(z, p, rate):
    moved = nn.Parameter(z.clone())
    loss = -(p * moved.log_softmax(dim=1)).sum() / len(z)
    loss.backward()
    torch.optim.SGD([moved], lr=rate).step()
    return moved.detach()


def count_table(seen, hidden, vocabulary_size, extra):
    pair = seen * vocabulary_size + hidden
    counts = torch.bincount(pair, minlength=vocabulary_size**2).view(vocabulary_size, vocabulary_size)
    unigram = torch.bincount(hidden, minlength=vocabulary_size) / len(hidden)
    smoothed = counts + extra * unigram
    return smoothed / smoothed.sum(dim=1, keepdim=True)


def count_table_with_counters(seen, hidden, vocabulary_size, extra):
    clues, words = seen.tolist(), hidden.tolist()
    pairs, rows, columns = Counter(zip(clues, words, strict=True)), Counter(clues), Counter(words)
    table = torch.empty(vocabulary_size, vocabulary_size)
    for clue in range(vocabulary_size):
        for word in range(vocabulary_size):
            often = pairs[clue, word] + extra * columns[word] / len(words)
            table[clue, word] = often / (rows[clue] + extra)
    return table


def count_table_by_multiplying(seen, hidden, vocabulary_size, extra):
    clues, words = F.one_hot(seen, vocabulary_size).float(), F.one_hot(hidden, vocabulary_size).float()
    return (clues.T @ words + extra * words.mean(dim=0)) / (clues.sum(dim=0)[:, None] + extra)


def window_model(vocabulary_size):
    model = nn.Sequential(
        nn.Embedding(vocabulary_size, 32),
        nn.Flatten(),
        nn.Linear(4 * 32, 256),
        nn.ReLU(),
        nn.Linear(256, vocabulary_size),
    )
    nn.init.normal_(model[0].weight, std=0.3)
    return model


class _TiedWindow(nn.Module):
    def __init__(self, vocabulary_size):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 64)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.norm, self.hidden, self.back = nn.LayerNorm(4 * 64), nn.Linear(4 * 64, 256), nn.Linear(256, 64)

    def forward(self, clues):
        x = self.norm(self.embedding(clues).flatten(1))
        return self.back(self.hidden(x).relu()) @ self.embedding.weight.T


def window_model_tied(vocabulary_size):
    return _TiedWindow(vocabulary_size)
