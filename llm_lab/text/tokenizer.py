"""Text to token ids and back, on Hugging Face's `tokenizers` library.

WordPiece (Schuster and Nakajima 2012; used by BERT) is the default; byte-level BPE (Sennrich et al. 2016, arXiv
1508.07909) is the alternative. Lesson 02 builds both by hand; for real work the library's Rust code trains in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from llm_lab.home import write_atomically

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # their ids are 0, 1, 2, 3, 4


class TokenizerError(ValueError):
    """A tokenizer that can't be trained or read; the message says what to change."""


class Tokenizer:
    """A trained tokenizer. `encode` frames a text as `[CLS] text [SEP]`.

    >>> tokenizer.tokens("Returns the [MASK] of the array.")
    ['[CLS]', 'returns', 'the', '[MASK]', 'of', 'the', 'array', '.', '[SEP]']
    """

    def __init__(self, core: tokenizers.Tokenizer):
        missing = [token for token in SPECIAL_TOKENS if core.token_to_id(token) is None]
        if missing:
            raise TokenizerError(f"the tokenizer lacks {', '.join(missing)}: train it with train_tokenizer().")
        self.core = core
        self.vocabulary_size: int = core.get_vocab_size()
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = map(self.id_of, SPECIAL_TOKENS)
        self.special_ids = (self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id)

    def id_of(self, token: str) -> int:
        """The id of a token of the vocabulary. Raises KeyError for a token that isn't in it."""
        token_id = self.core.token_to_id(token)
        if token_id is None:
            raise KeyError(token)
        return token_id

    def token_of(self, token_id: int) -> str:
        """The token with this id. Raises KeyError for an id outside the vocabulary."""
        token = self.core.id_to_token(int(token_id))
        if token is None:
            raise KeyError(token_id)
        return token

    def encode(self, text: str) -> list[int]:
        """The ids of one text, framed by [CLS] and [SEP]."""
        return self.core.encode(text).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, each framed; uses all cores."""
        return [encoding.ids for encoding in self.core.encode_batch(list(texts))]

    def tokens(self, text: str) -> list[str]:
        """The pieces of one text as strings, framed."""
        return self.core.encode(text).tokens

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Text again. Lowercasing and the kind of white space are lost; the words are not."""
        return self.core.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Token to id, for all tokens."""
        return self.core.get_vocab()

    def to_json(self) -> str:
        """All of it as one JSON text: the format of `tokenizer.json` everywhere in the field."""
        return self.core.to_str(pretty=True)

    @property
    def sha(self) -> str:
        """SHA-256 of the vocabulary: which token has which id. It doesn't depend on the library's version."""
        return hashlib.sha256(json.dumps(sorted(self.vocabulary.items())).encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write `tokenizer.json`, atomically."""
        write_atomically(path, self.to_json().encode())


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int = 8192, kind: str = "wordpiece", lowercase: bool = True
) -> Tokenizer:
    """Learn a vocabulary from texts.

    `vocabulary_size` counts entries, special tokens included; a small text gives fewer. Raises TokenizerError when
    there is no text, when the size has no room for the special tokens and a letter, or when the kind is unknown.
    """
    if vocabulary_size < len(SPECIAL_TOKENS) + 1:
        raise TokenizerError(f"a vocabulary of {vocabulary_size} has no room for words: give at least 100.")
    if kind not in ("wordpiece", "bpe"):
        raise TokenizerError(f"the kind of tokenizer is {kind!r}: choose wordpiece or bpe.")
    texts = [text for text in texts if text.strip()]
    core = _wordpiece() if kind == "wordpiece" else _byte_pairs()
    core.normalizer = _normalizer(lowercase)
    pieces = _continuations(core, texts) if kind == "wordpiece" else []
    core.train_from_iterator(texts, _trainer(kind, vocabulary_size, pieces))
    if kind == "wordpiece":  # the same vocabulary without the marks that `pieces` are special
        core = _wordpiece(core.get_vocab())
        core.normalizer = _normalizer(lowercase)
        core.add_special_tokens(list(SPECIAL_TOKENS))
    if core.get_vocab_size() <= len(SPECIAL_TOKENS) + (256 if kind == "bpe" else 0):
        raise TokenizerError("there is no text to learn a vocabulary from: give at least one sentence.")
    return _framed(core)


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """One word, one token, for a language whose words are all known: their ids follow those of the special tokens."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *words))}
    core = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.normalizer = _normalizer(lowercase=True)
    core.add_special_tokens(list(SPECIAL_TOKENS))
    return _framed(core)


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Read a `tokenizer.json`. Raises FileNotFoundError, or TokenizerError when the file is damaged."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no tokenizer at {path}: give the path of a tokenizer.json.")
    try:
        return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))
    except TokenizerError:
        raise
    except Exception as error:  # the library raises bare Exception for every kind of damage
        raise TokenizerError(f"{path} can't be read as a tokenizer ({error}): build it again.") from error


def _continuations(core: tokenizers.Tokenizer, texts: Iterable[str]) -> list[str]:
    """`##c` for each letter c that can stand inside a word, in order.

    By itself the library gives these pieces ids in the order of a random hash, and ids break ties between merges that
    are equally frequent. Named beforehand, in order, the same texts give the same vocabulary on every machine.
    """
    normalize = core.normalizer.normalize_str
    letters = set().union(*(text if text.isascii() else normalize(text) for text in texts))
    letters = set(normalize(" ".join(sorted(letters))))  # ASCII needs lowercasing only: once is enough
    return [f"##{c}" for c in sorted(letters) if len(core.pre_tokenizer.pre_tokenize_str(f"a{c}a")) == 1]


def _framed(core: tokenizers.Tokenizer) -> Tokenizer:
    frame = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    return Tokenizer(core)


def _wordpiece(vocabulary: dict[str, int] | None = None) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    return core


def _byte_pairs() -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    return core


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    # NFKC joins variants of the same letter; accents stay, since they carry meaning in most languages.
    steps: list[normalizers.Normalizer] = [normalizers.NFKC()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _trainer(kind: str, vocabulary_size: int, first_pieces: list[str]) -> trainers.Trainer:
    specials = [*SPECIAL_TOKENS, *first_pieces]  # these get the first ids, in this order
    if kind == "wordpiece":
        return trainers.WordPieceTrainer(
            vocab_size=vocabulary_size, min_frequency=2, special_tokens=specials, show_progress=False
        )
    return trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=specials,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # every byte has an entry: no text is unknown
    )
