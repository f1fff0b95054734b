"""Right answers to the exercises of lesson 03, where the package's own function is not the answer.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import hashlib
import random
import re
from bisect import bisect_left, insort
from collections import Counter

import numpy as np

from llm_lab.text.batches import BatchStream


def pack_token_by_token(documents, row_length):
    rows, row = [], []
    for document in documents:
        for token in document:
            row.append(token)
            if len(row) == row_length:
                rows.append(row)
                row = []
    if not rows:
        raise ValueError("the documents do not fill a row")
    return np.array(rows)


def contamination_with_counters(held_out, training, n):
    def runs(text):
        words = re.findall(r"\w+", text.lower())
        return Counter(" ".join(words[start : start + n]) for start in range(len(words) - n + 1))

    known = {run for text in training for run in runs(text)}
    hits, total, copies = 0, 0, 0
    for text in held_out:
        own = runs(text)
        found = sum(count for run, count in own.items() if run in known)
        hits, total = hits + found, total + own.total()
        copies += own.total() > 0 and 2 * found >= own.total()
    return (hits / total if total else 0.0, copies / len(held_out))


def held_out(modules, share):
    sides = []
    for module in modules:
        digest = hashlib.sha256(module.encode()).digest()
        sides.append(int.from_bytes(digest[:8], "big") / 2**64 < share)
    return sides


def held_out_by_seeding(modules, share):
    return [random.Random(module).random() < share for module in modules]


def held_out_by_remainder(modules, share):
    side = {module: int(hashlib.md5(module.encode()).hexdigest(), 16) % 10_000 for module in modules}
    return [side[module] < 10_000 * share for module in modules]


def rows_of(step, num_rows, batch_rows, seed, rank, world_size):
    found = []
    for place in range(step * batch_rows + rank, (step + 1) * batch_rows, world_size):
        epoch = place // num_rows
        order = np.random.default_rng([seed, epoch]).permutation(num_rows)
        found.append((epoch, int(order[place % num_rows])))
    return found


def rows_of_by_blocks(step, num_rows, batch_rows, seed, rank, world_size):
    share = batch_rows // world_size
    first = step * batch_rows + rank * share
    epochs = [place // num_rows for place in range(first, first + share)]
    orders = {epoch: list(range(num_rows)) for epoch in epochs}
    for epoch, order in orders.items():
        random.Random(f"{seed} {epoch}").shuffle(order)
    return [(epoch, orders[epoch][place % num_rows]) for place, epoch in enumerate(epochs, first)]


def rows_of_the_package(step, num_rows, batch_rows, seed, rank, world_size):
    stream = BatchStream(np.zeros((num_rows, 1)), None, None, batch_rows, seed, rank, world_size)
    epochs, rows = stream.rows_of(step)
    return list(zip(epochs.tolist(), rows.tolist(), strict=True))


def whole_documents(lengths, row_length):
    rows, room = [], []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        fitting = (row for row in range(len(rows)) if room[row] >= lengths[number])
        row = next(fitting, len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_length)
        rows[row].append(number)
        room[row] -= lengths[number]
    return rows


def whole_documents_into_the_fullest(lengths, row_length):
    rows, free = [], []  # free: (room, number of the row), sorted
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        place = bisect_left(free, (lengths[number], -1))
        room, row = free.pop(place) if place < len(free) else (row_length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(number)
        insort(free, (room - lengths[number], row))
    return rows
