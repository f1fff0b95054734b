"""Packing and padding against their definition: rows joined again are the documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.text.packing import pack, pad

DOCUMENTS = st.lists(st.lists(st.integers(5, 60_000), max_size=12), max_size=12)


@given(DOCUMENTS, st.integers(1, 9))
def test_packed_rows_joined_are_the_documents_joined(documents, row_length):
    stream = [token for document in documents for token in document]
    if len(stream) < row_length:
        with pytest.raises(ValueError, match=f"together have {len(stream)} tokens, fewer than one row of {row_length}"):
            pack(documents, row_length)
        return
    rows = pack(documents, row_length)
    assert rows.dtype == np.int64
    left_out = len(stream) - rows.size
    assert 0 <= left_out < row_length
    assert rows.ravel().tolist() == stream[: len(stream) - left_out]
    assert {len(row) for row in rows} == {row_length}


@given(DOCUMENTS, st.integers(1, 9))
def test_padded_rows_hold_the_start_of_each_document(documents, row_length):
    rows = pad(documents, row_length, pad_id=0)
    assert rows.shape == (len(documents), row_length)
    for row, document in zip(rows.tolist(), documents, strict=True):
        assert row == (document + [0] * row_length)[:row_length]


def test_documents_may_come_from_a_generator_and_no_document_is_an_error():
    rows = pack((range(i, i + 3) for i in range(4)), 4)
    assert rows.tolist() == [[0, 1, 2, 1], [2, 3, 2, 3], [4, 3, 4, 5]]
    with pytest.raises(ValueError, match="give more text or a smaller row length"):
        pack([], 8)


def test_padding_takes_another_id_and_keeps_the_documents():
    documents = [[1], [1, 2, 3]]
    assert pad(documents, 2, pad_id=9).tolist() == [[1, 9], [1, 2]]
    assert documents == [[1], [1, 2, 3]]
