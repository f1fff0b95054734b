"""The split: by module, stable, and without copies; recomputed here in the slowest and plainest way."""

import hashlib
import random

import pytest

from llm_lab.text.documents import HELD_OUT_SHARE, Document, eight_grams, is_held_out, leak_shares, mark_parts

WORDS = [f"word{i}" for i in range(400)]


def document(text: str, module: str) -> Document:
    return Document(text, "library", module, module, "function")


def random_documents(num_modules: int = 120, seed: int = 0) -> list[Document]:
    """Documents of random words, a quarter of which copy a piece of an earlier one."""
    draw = random.Random(seed)
    documents: list[Document] = []
    for i in range(num_modules):
        for _ in range(4):
            text = " ".join(draw.choices(WORDS, k=draw.randint(3, 40)))
            if documents and draw.random() < 0.25:
                copied = draw.choice(documents).text.split()
                text += " " + " ".join(copied[: draw.randint(1, len(copied))])
            documents.append(document(text, f"module{i}"))
    return documents


def brute_force_leaked(doc: Document, training: list[Document]) -> bool:
    """Half of the 8-grams, compared as strings with every training text."""
    words = doc.text.lower().split()
    grams = [" ".join(words[i : i + 8]) for i in range(len(words) - 7)]
    texts = [f" {other.text.lower()} " for other in training]
    repeated = sum(any(f" {gram} " in text for text in texts) for gram in grams)
    return bool(grams) and repeated >= len(grams) / 2


def test_leaked_documents_are_those_that_brute_force_finds():
    marked = mark_parts(random_documents())
    training = [d for d in marked if d.part == "train"]
    others = [d for d in marked if d.part != "train"]
    expected = [brute_force_leaked(d, training) for d in others]
    assert [d.part == "dropped" for d in others] == expected
    assert 0 < sum(expected) < len(expected)
    before, after = leak_shares(marked)
    assert before == pytest.approx(sum(expected) / len(expected))
    assert after == 0


def test_a_leak_that_was_not_dropped_is_reported():
    text = "one two three four five six seven eight nine"
    documents = [document(text, "module0"), Document(text, "l", "module1", "n", "function", "held_out")]
    assert leak_shares(documents) == (1.0, 1.0)


def test_no_module_is_in_both_parts():
    marked = mark_parts(random_documents())
    train = {d.module for d in marked if d.part == "train"}
    assert train.isdisjoint({d.module for d in marked if d.part != "train"})


def test_the_side_of_a_module_depends_on_its_name_alone():
    def expected(name: str) -> bool:
        return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) / 16**16 < 0.05

    names = [f"package.module{i}" for i in range(5_000)]
    assert [is_held_out(name) for name in names] == [expected(name) for name in names]
    share = sum(map(is_held_out, names)) / len(names)
    assert share == pytest.approx(HELD_OUT_SHARE, abs=0.01)
    assert is_held_out("a") is is_held_out("a")


def test_two_modules_are_enough_for_two_parts():
    marked = mark_parts([document("the first text", "module1"), document("the second text", "module2")])
    assert sorted(d.part for d in marked) == ["held_out", "train"]


def test_eight_grams_are_lower_case_and_without_punctuation():
    assert list(eight_grams("One, two; three four (five) six: seven eight nine.")) == [
        ("one", "two", "three", "four", "five", "six", "seven", "eight"),
        ("two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ]
    assert list(eight_grams("only seven words are in this text")) == []
