"""What a model of `transformers` reads: our batches with dense labels, their collator, and text that streams by.

Letters: B rows of a batch, T tokens of a row. Their masked language models take `input_ids`, `attention_mask` and
`labels`, each (B, T); a label of -100 counts for nothing, as here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from llm_lab.config import MaskingConfig
from llm_lab.huggingface.twins import ExportError, require_transformers
from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED


def for_transformers(batch: Batch) -> dict[str, Tensor]:
    """The same questions as arguments of their model: `their_model(**for_transformers(batch)).loss`.

    Ours lists the targets, (B, K); theirs wants a label at every position, (B, T).
    """
    counts = batch.targets != IGNORED
    row = counts.nonzero()[:, 0]
    labels = torch.full_like(batch.inputs, IGNORED)
    labels[row, batch.positions[counts]] = batch.targets[counts]
    seen = torch.ones_like(batch.inputs) if batch.mask is None else batch.mask.long()
    return {"input_ids": batch.inputs, "attention_mask": seen, "labels": labels}


def collator(their_tokenizer: Any, masking: MaskingConfig, seed: int | None = None) -> Any:
    """Their `DataCollatorForLanguageModeling` with our mask rate and scheme: a list of rows in, a masked batch out.

    It chooses each token by itself, so it can't do `exact`: raises ExportError. Its random words may be special tokens;
    ours never are.
    """
    if masking.selection != "bernoulli":
        raise ExportError("transformers' collator chooses each token by itself: give MaskingConfig bernoulli.")
    shares = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    if masking.scheme == "80/10/10":
        shares = {"mask_replace_prob": 0.8, "random_replace_prob": 0.1}
    library = require_transformers()
    return library.DataCollatorForLanguageModeling(their_tokenizer, mlm_probability=masking.rate, seed=seed, **shares)


def packed_stream(
    texts: Iterable[str], encode: Callable[[str], Sequence[int]], row_length: int
) -> Iterator[dict[str, list[int]]]:
    """Full rows of `row_length` tokens, one at a time: what `text.packing.pack` makes, with one text in memory.

    `encode` frames a text with [CLS] and [SEP]. The last tokens, fewer than a row, are left out.

    >>> [row["input_ids"] for row in packed_stream(["ab", "c"], lambda text: [2, *map(ord, text), 3], 3)]
    [[2, 97, 98], [3, 2, 99]]
    """
    waiting: list[int] = []
    for text in texts:
        waiting += encode(text)
        full = len(waiting) - len(waiting) % row_length
        for start in range(0, full, row_length):
            yield {"input_ids": waiting[start : start + row_length]}
        del waiting[:full]


def batches_of(
    rows: Iterable[Mapping[str, Any]], collate: Callable[[list[Mapping[str, Any]]], Mapping[str, Tensor]], size: int
) -> Iterator[Mapping[str, Tensor]]:
    """Masked batches of `size` rows from a stream, until it ends; rows that don't fill a batch are left out."""
    rows = iter(rows)
    while len(chosen := list(islice(rows, size))) == size:
        yield collate(chosen)
