"""Padding, the stream of batches, and probabilities row by row."""

import pytest
import torch

from llm_lab.config import ModelConfig
from llm_lab.model.heads import Classifier
from llm_lab.tasks.rows import Row, RowStream, log_probabilities, padded_batch
from llm_lab.text.masking import IGNORED

ROWS = [
    Row([2, 7, 8, 9, 3], [1, 3], [0, 2], 0),
    Row([2, 5, 3], [1], [1], 1),
    Row([2, 5, 0, 6, 3], [1, 2, 3], [1, IGNORED, 0], 2),  # a [PAD] in the text itself is a token that is read
]


def test_a_batch_by_hand():
    batch = padded_batch(ROWS, pad_id=0)
    assert batch.inputs.tolist() == [[2, 5, 3, 0, 0], [2, 7, 8, 9, 3], [2, 5, 0, 6, 3]]
    assert batch.mask.tolist() == [[True, True, True, False, False], [True] * 5, [True] * 5]
    assert batch.positions.tolist() == [[1, 0, 0], [1, 3, 0], [1, 2, 3]]
    assert batch.targets.tolist() == [[1, IGNORED, IGNORED], [0, 2, IGNORED], [1, IGNORED, 0]]
    assert batch.num_targets == 5 and batch.num_tokens == 13


def test_parts_carry_less_padding():
    rows = [Row([2] + [5] * i + [3], [0], [0], i) for i in (30, 1, 2, 29, 3, 31, 4, 32)]
    whole = padded_batch(rows, 0)
    parts = whole.split(2)
    assert [part.inputs.shape for part in parts] == [(4, 6), (4, 34)]
    assert sum(part.num_tokens for part in parts) == whole.num_tokens == sum(len(row.ids) for row in rows)


def test_an_epoch_holds_every_row_once_and_epochs_differ():
    rows = [Row([2, 10 + i, 3], [0], [i], i) for i in range(10)]
    stream = RowStream(rows, 0, batch_rows=4, seed=5)
    assert stream.steps_per_epoch == 3
    epochs = [torch.cat([stream.batch(3 * e + s).targets[:, 0] for s in range(3)]).tolist() for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [len(stream.batch(s).inputs) for s in range(4)] == [4, 4, 2, 4]
    again = RowStream(rows, 0, 4, seed=5)
    assert torch.equal(again.batch(7).inputs, stream.batch(7).inputs)
    others = RowStream(rows, 0, 4, seed=6)
    assert not torch.equal(others.batch(0).inputs, stream.batch(0).inputs)
    with pytest.raises(ValueError, match="there are no rows"):
        RowStream([], 0, 4, 0)


def test_probabilities_do_not_depend_on_neighbours_or_order(monkeypatch):
    torch.manual_seed(0)
    config = ModelConfig(40, 16, 2, 2, 24, max_length=64, dropout=0.5)
    draw = torch.Generator().manual_seed(1)
    rows = []
    for i in range(150):  # more than two batches
        length = int(torch.randint(3, 20, (1,), generator=draw))
        ids = torch.randint(5, 40, (length,), generator=draw).tolist()
        rows.append(Row(ids, list(range(i % 3 + 1)), [0] * (i % 3 + 1), i))
    for pooling in ("mean", "first", "each"):
        model = Classifier(config, 3, pooling).double()
        with torch.no_grad():
            model.output.weight.normal_()
        together = list(log_probabilities(model.train(), rows, 0))
        assert not model.training
        for row, log_p in zip(rows, together, strict=True):
            alone = model(torch.tensor([row.ids]), None, torch.tensor([row.positions]))[0].log_softmax(dim=-1)
            assert torch.allclose(log_p.double(), alone[: len(log_p)], atol=1e-6)
            assert len(log_p) == (len(row.positions) if pooling == "each" else 1)
