"""Who influences whom: models that read too little, and across rows; and sound ones of every kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llm_lab.config import BERT_SHAPE
from llm_lab.train.doctor.influence import examine_influence
from tests.train.doctor.runs import names, small


def with_encoder(wrap, **options):
    """A subject whose encoder's forward is `wrap(forward)`."""
    subject = small(**options)
    subject.model.encoder.forward = wrap(subject.model.encoder.forward)
    return subject


@pytest.mark.parametrize(
    "options",
    [{}, BERT_SHAPE, {"batch_rows": 1}, {"batch_rows": 2, "seed": 4}, {"architecture": "bilstm"}]
    + [{"architecture": "window"}, {"width": 64, "num_layers": 2, "dropout": 0.4}],
    ids=str,
)
def test_sound_models(options):
    assert examine_influence(small(**options)) == []


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_one_side_is_a_remark(kind):
    (finding,) = examine_influence(small(architecture=kind))
    assert finding.name == "reads one side" and "to the right of a blank have no influence" in finding.sentence


def test_the_other_side_too():
    def wrap(inner):
        def forward(ids, mask=None, positions=None):
            flipped = inner(ids.flip(1), None if mask is None else mask.flip(1)).flip(1)
            return flipped.gather(1, positions[..., None].expand(-1, -1, flipped.shape[-1]))

        return forward

    (finding,) = examine_influence(with_encoder(wrap, architecture="lstm", batch_rows=1))
    assert finding.name == "reads one side" and "to the left of a blank have no influence" in finding.sentence


def test_no_order_is_a_remark():
    assert names(examine_influence(small(positions="none"))) == ["order unseen"]


def test_positions_along_the_batch():
    subject = small(positions="none")
    places = nn.Embedding(64, 32)
    subject.model.encoder.embedding_norm.register_forward_hook(
        lambda module, x, y: y + places(torch.arange(len(y)))[:, None]
    )
    assert names(examine_influence(subject)) == ["rows influence each other"]


@pytest.mark.parametrize("only_in_training", [False, True])
def test_rows_that_mix(only_in_training):
    def wrap(inner):
        def forward(*arguments):
            x = inner(*arguments)
            return x + x.mean(dim=0) if subject.model.training or not only_in_training else x

        return forward

    subject = with_encoder(wrap)
    (finding,) = examine_influence(subject)
    assert finding.name == "rows influence each other"
    assert ("in training mode" in finding.sentence) == only_in_training


def test_something_that_counts_the_padding():
    def wrap(inner):
        return lambda ids, mask=None, positions=None: inner(ids, mask, positions) * (1 + ids.shape[1] / 30)

    assert names(examine_influence(with_encoder(wrap))) == ["padding changes guesses"]


def test_modes_that_differ_and_random_numbers_that_do_not():
    def wrap(inner):
        return lambda *arguments: inner(*arguments) * (2 if subject.model.training else 1)

    subject = with_encoder(wrap)
    assert names(examine_influence(subject)) == ["modes differ"]

    def wrap_random(inner):
        return lambda *arguments: nn.functional.dropout(inner(*arguments), 0.5, other.model.training)

    other = with_encoder(wrap_random)
    assert examine_influence(other) == []


def test_a_model_that_reads_the_first_places_alone():
    def wrap(inner):
        def forward(ids, mask=None, positions=None):
            mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
            return inner(ids, mask & (torch.arange(ids.shape[1]) < 6), positions)

        return forward

    (finding,) = examine_influence(with_encoder(wrap))
    assert finding.name == "part of the row is unseen" and "only 0 to 5 are read" in finding.sentence
