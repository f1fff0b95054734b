"""Right answers to the exercises of lesson 02.

Functions whose name goes on after the exercise's show that it can be written otherwise; the checks accept all of them.
"""

import math
import re
from collections import Counter

import tokenizers

from llm_lab.metrics import bits_per_byte


def bits_a_byte(nats, text):
    return nats.sum().item() / math.log(2) / len(text.encode())


def bits_a_byte_by_adding(nats, text):
    total = 0.0
    for number in nats.tolist():
        total += math.log2(math.exp(number))
    return total / len(bytes(text, "utf-8"))


def bits_a_byte_of_the_package(nats, text):
    return bits_per_byte(nats.double().mean().item(), len(nats) / len(text.encode("utf-8")))


def join(pieces, pair):
    joined, place = [], 0
    while place < len(pieces):
        if tuple(pieces[place : place + 2]) == tuple(pair):
            joined.append(pieces[place] + pieces[place + 1])
            place += 2
        else:
            joined.append(pieces[place])
            place += 1
    return joined


def join_onto_the_last(pieces, pair):
    joined = []
    for piece in pieces:
        if joined and (joined[-1], piece) == tuple(pair):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def join_by_a_pattern(pieces, pair):
    left, right = map(re.escape, pair)
    return re.sub(rf"(?<!\S){left} {right}(?!\S)", "".join(pair), " ".join(pieces)).split(" ")


def longest_match(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = len(word)
        while end > start and mark + word[start:end] not in vocabulary:
            end -= 1
        if end == start:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def longest_match_of_the_rest(word, vocabulary):
    def cut(rest, mark):
        if not rest:
            return []
        fitting = [end for end in range(1, len(rest) + 1) if mark + rest[:end] in vocabulary]
        return [mark + rest[: fitting[-1]], *cut(rest[fitting[-1] :], "##")] if fitting else [None]

    pieces = cut(word, "")
    return ["[UNK]"] if None in pieces else pieces


def longest_match_by_the_library(word, vocabulary):
    numbered = {entry: number for number, entry in enumerate(["[UNK]", *vocabulary])}
    model = tokenizers.models.WordPiece(numbered, unk_token="[UNK]")
    return [token.value for token in model.tokenize(word)]


def learn_merges(text, num_merges):
    words = Counter(text.split())
    splits, merges = {word: list(word) for word in words}, []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(splits[word], splits[word][1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        splits = {word: join(pieces, best) for word, pieces in splits.items()}
    return merges


def learn_merges_in_running_text(text, num_merges):
    running, merges = [list(word) for word in text.split()], []
    for _ in range(num_merges):
        found = sorted((pieces[i], pieces[i + 1]) for pieces in running for i in range(len(pieces) - 1))
        if not found:
            return merges
        often = Counter(found)
        merges.append(next(pair for pair in found if often[pair] == max(often.values())))
        running = [join_onto_the_last(pieces, merges[-1]) for pieces in running]
    return merges


def vocabulary(words, size):
    splits = {word: [word[0], *("##" + letter for letter in word[1:])] for word in words}
    entries = {piece for pieces in splits.values() for piece in pieces}
    while len(entries) < size:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(splits[word], splits[word][1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        left, right = pairs.most_common(1)[0][0]
        both = left + right.removeprefix("##")
        entries.add(both)
        for word, pieces in splits.items():
            if left in pieces:
                splits[word] = _join_marked(pieces, left, right, both)
    return entries


def _join_marked(pieces, left, right, both):
    joined = []
    for piece in pieces:
        if joined and (joined[-1], piece) == (left, right):
            joined[-1] = both
        else:
            joined.append(piece)
    return joined


def vocabulary_by_savings(words, size):
    entries = {("##" if place else "") + word[place] for word in words for place in range(len(word))}
    while len(entries) < size:
        saved = Counter()
        for word, count in words.items():
            pieces = longest_match(word, entries)
            for start in range(len(pieces)):
                run = pieces[start]
                for end in range(start + 1, len(pieces)):
                    run += pieces[end].removeprefix("##")
                    saved[run] += count * (end - start)
        best = [run for run, _ in saved.most_common(min(8, size - len(entries)))]
        if not best:
            break
        entries.update(best)
    return entries
