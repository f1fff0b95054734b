"""Right answers to the exercises of lesson 04, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import hashlib

import numpy as np
import torch

from llm_lab.text.masking import row_noise


def may_be_hidden(ids, special_ids):
    return ~torch.isin(ids, torch.tensor(tuple(special_ids)))


def may_be_hidden_by_comparing(ids, special_ids):
    allowed = torch.ones_like(ids, dtype=torch.bool)
    for special in special_ids:
        allowed = allowed & (ids != special)
    return allowed


def may_be_hidden_token_by_token(ids, special_ids):
    return torch.tensor([[token not in special_ids for token in row] for row in ids.tolist()])


def labels(ids, targets, mask_id):
    return ids.masked_fill(targets, mask_id), ids.masked_fill(~targets, -100)


def labels_by_copying(ids, targets, mask_id):
    seen, asked = ids.clone(), torch.full_like(ids, -100)
    asked[targets] = ids[targets]
    seen[targets] = mask_id
    return seen, asked


def exact_counts_row_by_row(ids, config, special_ids, noise):
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    for b, row in enumerate(ids.tolist()):
        words = [t for t, token in enumerate(row) if token not in special_ids]
        count = max(1, round(config.rate * len(words)))
        for t in sorted(words, key=lambda t: noise[b, t].item())[:count]:
            chosen[b, t] = True
    return chosen


def mixture_token_by_token(ids, targets, scheme, mask_id, special_ids, vocabulary_size, noise):
    words = [i for i in range(vocabulary_size) if i not in special_ids]
    seen, decision, draw = ids.tolist(), noise[0].tolist(), noise[1].tolist()
    for b, t in targets.nonzero().tolist():
        if scheme == "pure" or decision[b][t] >= 0.2:
            seen[b][t] = mask_id
        elif decision[b][t] >= 0.1:
            seen[b][t] = words[int(draw[b][t] * len(words))]
    return torch.tensor(seen)


def same_masks(seed, epoch, rows, length):
    noise = [np.random.default_rng((seed, epoch, row)).random(length) for row in rows]
    return torch.from_numpy(np.stack(noise))


def same_masks_by_hashing(seed, epoch, rows, length):
    def number(row, place):
        digest = hashlib.sha256(f"{seed} {epoch} {row} {place}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    return torch.tensor([[number(row, place) for place in range(length)] for row in rows])


def same_masks_of_the_package(seed, epoch, rows, length):
    return row_noise(seed, np.full(len(rows), epoch), np.array(rows), length)[0]


def mask_rate(step, steps):
    return 0.45


def mask_rate_falling(step, steps):
    return 0.6 - 0.45 * step / steps
