"""The tokenizer: held against a WordPiece written out by hand, round trips, and every kind of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.text.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    TokenizerError,
    load_tokenizer,
    train_tokenizer,
    word_tokenizer,
)
from tests import samples

ROOT = Path(__file__).resolve().parent.parent.parent
TEXTS = samples.sentences(300, seed=1)


@pytest.fixture(scope="module")
def wordpiece():
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def byte_pairs():
    return train_tokenizer(TEXTS, 400, kind="bpe")


def longest_match_first(word, vocabulary):
    """WordPiece as its authors describe it: the longest piece that fits, then the longest that continues it."""
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


@pytest.mark.parametrize("text", ["The gardener repairs a lantern.", "Bridges, boats (and a ladder).", *TEXTS[:20]])
def test_pieces_are_those_of_longest_match_first(wordpiece, text):
    spaced = "".join(f" {c} " if not c.isalnum() and not c.isspace() else c for c in text.lower())
    by_hand = [piece for word in spaced.split() for piece in longest_match_first(word, wordpiece.vocabulary)]
    assert wordpiece.tokens(text) == ["[CLS]", *by_hand, "[SEP]"]
    assert wordpiece.encode(text) == [wordpiece.vocabulary[piece] for piece in wordpiece.tokens(text)]


def test_special_tokens_have_the_first_ids(wordpiece, byte_pairs):
    for tokenizer in (wordpiece, byte_pairs):
        assert [tokenizer.token_of(i) for i in range(5)] == list(SPECIAL_TOKENS)
        ids = (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
        assert ids == tokenizer.special_ids == (0, 1, 2, 3, 4)


def test_ids_and_tokens_are_inverse_and_cover_the_vocabulary(wordpiece):
    tokens = [wordpiece.token_of(i) for i in range(wordpiece.vocabulary_size)]
    assert [wordpiece.id_of(token) for token in tokens] == list(range(wordpiece.vocabulary_size))
    assert dict(zip(tokens, range(len(tokens)), strict=True)) == wordpiece.vocabulary
    with pytest.raises(KeyError, match="zebra"):
        wordpiece.id_of("zebra")
    with pytest.raises(KeyError):
        wordpiece.token_of(wordpiece.vocabulary_size)


@pytest.mark.parametrize("size", [100, 150, 300])
def test_the_vocabulary_has_the_size_that_was_asked_for(size):
    assert train_tokenizer(TEXTS, size).vocabulary_size == size


def test_a_small_text_gives_a_small_vocabulary():
    tokenizer = train_tokenizer(["ab ab", "ab"], 8192)
    assert set(tokenizer.vocabulary) == {*SPECIAL_TOKENS, "a", "b", "##a", "##b", "ab"}
    assert tokenizer.tokens("ab") == ["[CLS]", "ab", "[SEP]"]


def test_words_come_back(wordpiece):
    for text in TEXTS[:50]:
        assert wordpiece.decode(wordpiece.encode(text)) == text.lower()
    assert wordpiece.decode(wordpiece.encode("a lamp"), skip_special_tokens=False) == "[CLS] a lamp [SEP]"


@given(st.text())
def test_byte_pairs_give_every_text_back(byte_pairs_of_case, text):
    """Byte-level BPE knows every byte: nothing is lost but what NFKC joins, and nothing is unknown."""
    import unicodedata

    ids = byte_pairs_of_case.encode(text)
    assert byte_pairs_of_case.unknown_id not in ids or "[UNK]" in text
    if not any(token in text for token in SPECIAL_TOKENS):
        assert byte_pairs_of_case.decode(ids).strip() == unicodedata.normalize("NFKC", text).strip()


@pytest.fixture(scope="module")
def byte_pairs_of_case():
    return train_tokenizer(TEXTS, 400, kind="bpe", lowercase=False)


def test_the_mask_stays_whole_inside_a_sentence(wordpiece, byte_pairs):
    for tokenizer in (wordpiece, byte_pairs):
        ids = tokenizer.encode("The [MASK] is near the [MASK].")
        assert ids.count(tokenizer.mask_id) == 2
        assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)


def test_case_is_kept_only_when_asked(wordpiece):
    assert wordpiece.encode("The LAMP") == wordpiece.encode("the lamp")
    cased = train_tokenizer([text.replace("lamp", "LAMP") for text in TEXTS], 300, lowercase=False)
    assert "LAMP" in cased.vocabulary and cased.encode("LAMP") != cased.encode("lamp")


def test_compatible_letters_are_joined_and_accents_stay():
    tokenizer = train_tokenizer(["the ﬁle café", "the file café", "the file cafe"] * 3, 300)
    assert tokenizer.encode("ﬁle") == tokenizer.encode("file")
    assert tokenizer.encode("cafe\u0301") == tokenizer.encode("café") != tokenizer.encode("cafe")


def test_letters_never_seen_are_unknown(wordpiece):
    assert wordpiece.encode("лампа") == [wordpiece.cls_id, wordpiece.unknown_id, wordpiece.sep_id]
    assert wordpiece.encode("") == [wordpiece.cls_id, wordpiece.sep_id]


def test_many_at_once_are_the_same_as_one_by_one(wordpiece):
    assert wordpiece.encode_many(TEXTS[:30]) == [wordpiece.encode(text) for text in TEXTS[:30]]
    assert wordpiece.encode_many([]) == []


def test_a_saved_tokenizer_is_the_same_and_the_library_reads_it(wordpiece, tmp_path):
    path = tmp_path / "deep" / "tokenizer.json"
    wordpiece.save(path)
    again, plain = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    for text in TEXTS[:20]:
        assert again.encode(text) == wordpiece.encode(text) == plain.encode(text).ids
    assert again.to_json() == wordpiece.to_json()


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_same_texts_give_the_same_tokenizer_every_time(kind):
    """The library alone orders equally frequent merges by a random hash: 12 trainings gave 10 vocabularies."""
    texts = [*TEXTS, "Ünïcode letters, THE ﬁle and the word 中文字 twice: 中文字"]
    assert len({train_tokenizer(iter(texts), 400, kind).to_json() for _ in range(4)}) == 1


def test_another_process_gives_the_same_tokenizer():
    """Python's own hashes of strings are random, too, from one process to the next."""
    program = (
        "import hashlib; from tests import samples; from llm_lab.text.tokenizer import train_tokenizer; "
        "print(hashlib.sha256(train_tokenizer(samples.sentences(300, seed=1), 300).to_json().encode()).hexdigest())"
    )
    digests = set()
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_only_our_five_tokens_are_special(wordpiece):
    added = json.loads(wordpiece.to_json())["added_tokens"]
    assert [(token["id"], token["content"]) for token in added] == list(enumerate(SPECIAL_TOKENS))
    assert wordpiece.tokens("##a b") == ["[CLS]", "[UNK]", "[UNK]", "a", "b", "[SEP]"]


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        ([], {}, "no text to learn a vocabulary from"),
        (["", "  \n"], {}, "no text to learn a vocabulary from"),
        ([], {"kind": "bpe"}, "no text to learn a vocabulary from"),
        (TEXTS, {"vocabulary_size": 5}, "a vocabulary of 5 has no room for words"),
        (TEXTS, {"vocabulary_size": -1}, "a vocabulary of -1 has no room for words"),
        (TEXTS, {"kind": "letters"}, "choose wordpiece or bpe"),
    ],
)
def test_what_can_not_be_learnt_is_refused(texts, options, words):
    with pytest.raises(TokenizerError, match=words):
        train_tokenizer(texts, **options)


def test_a_missing_or_damaged_file_is_named(wordpiece, tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match="there is no tokenizer at"):
        load_tokenizer(path)
    wordpiece.save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\xff" + whole, b"[1, 2]"):
        path.write_bytes(damaged)
        with pytest.raises(TokenizerError, match="can't be read as a tokenizer") as caught:
            load_tokenizer(path)
        assert "\n" not in str(caught.value)


def test_a_tokenizer_without_our_special_tokens_is_refused(wordpiece, tmp_path):
    content = json.loads(wordpiece.to_json().replace("[MASK]", "<mask>"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match=r"lacks \[MASK\]"):
        load_tokenizer(path)
    with pytest.raises(TokenizerError, match=r"lacks \[PAD\], \[UNK\]"):
        Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()))


# -- one word, one token ----------------------------------------------------------------------------------------------


def test_a_word_tokenizer_numbers_words_in_their_order(tmp_path):
    words = ["zebra", "duck", ".", "ducks"]
    tokenizer = word_tokenizer(words)
    assert [tokenizer.token_of(i) for i in range(9)] == [*SPECIAL_TOKENS, *words]
    assert tokenizer.vocabulary_size == 9 and tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.encode("duck ducks zebra.") == [2, 6, 8, 5, 7, 3]
    assert tokenizer.encode("The DUCK [MASK]  Ducks") == [2, 1, 6, 4, 8, 3]
    assert tokenizer.encode("ducksduck") == [2, 1, 3]  # no pieces of words
    assert tokenizer.decode([2, 6, 8, 7, 3]).split() == ["duck", "ducks", "."]
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.sha == tokenizer.sha and again.encode("zebra [MASK] .") == [2, 5, 4, 7, 3]
    assert word_tokenizer(words[::-1]).sha != tokenizer.sha
    added = json.loads(tokenizer.to_json())["added_tokens"]
    assert [token["content"] for token in added] == list(SPECIAL_TOKENS)
