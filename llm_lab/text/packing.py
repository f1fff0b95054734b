"""Documents of any length -> rows of one length.

Letters: N rows, T tokens of a row. Padding fills short rows with [PAD], which costs time and teaches nothing;
packing lays the documents end to end and cuts, so that every position is a real token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def pack(documents: Iterable[Sequence[int]], row_length: int) -> np.ndarray:
    """Lay framed documents end to end and cut the stream into full rows, (N, T) int64.

    The frames ([CLS] .. [SEP]) mark where one document ends and the next begins. The last tokens, fewer than a row,
    are left out. Raises ValueError when all the documents together are shorter than one row.

    >>> pack([[2, 7, 8, 3], [2, 9, 3]], row_length=3)
    array([[2, 7, 8],
           [3, 2, 9]])
    """
    pieces = [np.asarray(document, dtype=np.int64) for document in documents]
    stream = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    num_rows = len(stream) // row_length
    if num_rows == 0:
        raise ValueError(
            f"all the documents together have {len(stream)} tokens, fewer than one row of {row_length}: "
            "give more text or a smaller row length."
        )
    return stream[: num_rows * row_length].reshape(num_rows, row_length)


def pad(documents: Sequence[Sequence[int]], row_length: int, pad_id: int) -> np.ndarray:
    """One document a row, cut at `row_length` and filled up with `pad_id`, (N, T) int64.

    >>> pad([[2, 7, 8, 3], [2, 9, 3]], row_length=5, pad_id=0)
    array([[2, 7, 8, 3, 0],
           [2, 9, 3, 0, 0]])
    """
    rows = np.full((len(documents), row_length), pad_id, dtype=np.int64)
    for row, document in zip(rows, documents, strict=True):
        kept = document[:row_length]
        row[: len(kept)] = kept
    return rows
