"""The model's examination: models that read too little, too much, or make NaN; and sound ones of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from llm_lab.config import BERT_SHAPE, MaskingConfig
from llm_lab.train.doctor.model import examine_model
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL, changed, names, small


def with_encoder(change, **options):
    """A subject whose encoder gets `change(ids, mask)` instead of its ids and mask."""
    subject = small(**options)
    inner = subject.model.encoder.forward
    subject.model.encoder.forward = lambda ids, mask=None, positions=None: inner(*change(ids, mask), positions)
    return subject


@pytest.mark.parametrize(
    "options",
    [{}, BERT_SHAPE, {"positions": "none"}, {"batch_rows": 1, "seed": 3}]
    + [{"architecture": kind} for kind in ("rnn", "lstm", "bilstm", "window")],
    ids=str,
)
def test_sound_models(options):
    assert examine_model(small(**options)) == []


def test_a_model_that_ignores_the_mask():
    assert names(examine_model(with_encoder(lambda ids, mask: (ids, None)))) == ["padding is read"]


def test_without_padding_a_model_needs_no_mask():
    subject = with_encoder(lambda ids, mask: (ids, None))
    packed = changed(subject, lambda s, b: replace(b, inputs=b.inputs.clamp(min=1), mask=None))
    assert examine_model(packed) == []


def test_a_mask_that_comes_late_is_found():
    subject = with_encoder(lambda ids, mask: (ids, None))
    late = changed(subject, lambda s, b: b if s == 7 else replace(b, inputs=b.inputs.clamp(min=1), mask=None))
    assert names(examine_model(late)) == ["padding is read"]


def test_an_inverted_mask():
    assert names(examine_model(with_encoder(lambda ids, mask: (ids, ~mask)))) == ["mask upside down"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_model_that_sees_the_hidden_word_alone(packed):
    subject = small(positions="none")  # everyone alike without the others, so only attention can tell
    subject.model.encoder.blocks[-1].attention.output.weight.data.zero_()
    if packed:
        subject = changed(subject, lambda s, b: replace(b, inputs=b.inputs.clamp(min=1), mask=None))
    assert names(examine_model(subject)) == ["blind model"]


def test_a_blind_model_is_seen_with_berts_mixture_too():
    class Mixed(TrainingRun):
        masking = MaskingConfig(rate=0.3, scheme="80/10/10", selection="bernoulli")

    subject = Mixed(**SMALL).subject()
    subject.model.encoder.blocks[-1].attention.output.weight.data.zero_()
    assert names(examine_model(subject)) == ["blind model"]


def test_dropout_that_ignores_eval_and_a_parameter_made_in_forward():
    subject = small()
    subject.model.encoder.dropout.forward = lambda x: nn.functional.dropout(x, 0.1, training=True)
    assert names(examine_model(subject)) == ["model not repeatable"]
    subject, inner = small(), None
    inner = subject.model.encoder.embedding_norm.forward

    def forward(x):
        subject.model.extra = nn.Linear(1, 1)
        return inner(x)

    subject.model.encoder.embedding_norm.forward = forward
    assert names(examine_model(subject)) == ["model not repeatable"]


def test_logits_that_are_no_numbers_end_the_examination():
    subject = small()
    subject.model.head.bias.data[3] = float("inf")
    assert names(examine_model(subject)) == ["logits not numbers"]


def test_an_empty_row():
    subject = small()
    inner = subject.model.encoder.forward

    def forward(ids, mask=None, positions=None):
        x = inner(ids, mask, positions)
        return x if mask is None else x / mask.any(dim=1)[:, None, None].float() * 1.0

    subject.model.encoder.forward = forward
    assert names(examine_model(subject)) == ["empty row gives NaN"]
