"""Is the exam comparable: in other units, too easy, and on rows that training reads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from llm_lab.config import MaskingConfig
from llm_lab.text.batches import fixed_batches
from llm_lab.train.doctor.exam import examine_exam
from llm_lab.ward import DATASET, TrainingRun
from llm_lab.ward.run import mean_loss
from tests.train.doctor.runs import SMALL, names

WORDS = DATASET.tokenizer


@pytest.fixture
def run():
    return TrainingRun(**SMALL)


def test_a_sound_exam_and_none(run):
    assert examine_exam(run.subject()) == []
    assert examine_exam(replace(run.subject(), evaluate=None)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda loss: loss / math.log(2), "bits"),
        (math.exp, "perplexity"),
        (lambda loss: -loss, "wrong sign"),
        (lambda loss: 50 * loss, "times"),
        (lambda loss: 0.01, "0.00 times"),
    ],
)
def test_another_unit(run, change, words):
    (finding,) = examine_exam(replace(run.subject(), evaluate=lambda: change(run.evaluate())))
    assert finding.name == ("evaluation disagrees" if "times" in words else "evaluation in another unit")
    assert words in finding.sentence


def shown(batch):
    """The same questions, and the answers in the input."""
    ids, real = batch.inputs.clone(), batch.targets != -100
    ids[real.nonzero()[:, 0], batch.positions[real]] = batch.targets[real]
    return replace(batch, inputs=ids)


def exam_on(run, batches):
    def evaluate():
        run.model.eval()
        return mean_loss(run.model, batches)

    return names(examine_exam(replace(run.subject(), evaluate=evaluate)))


def test_an_exam_that_shows_its_answers(run):
    assert exam_on(run, [shown(batch) for batch in run.held_out]) == ["exam hides nothing"]


def test_an_exam_on_the_rows_of_the_training(run):
    ids = [run.stream.ids_of(run.stream.rows_of(step)[1]) for step in range(20)]
    rows = torch.cat([torch.from_numpy(part) for part in ids]).numpy()
    batches = fixed_batches(rows, WORDS, DATASET.evaluation_masking, 40)
    assert exam_on(run, batches) == ["exam in the training data"]


def test_an_exam_that_asks_for_special_tokens(run):
    masking = MaskingConfig(rate=0.15, selection="bernoulli")
    batches = fixed_batches(DATASET.held_out[:200], replace_specials(WORDS), masking, 100)
    assert exam_on(run, batches) == ["exam asks for special tokens"]


def test_an_exam_of_full_stops(run):
    stop = WORDS.id_of(".")
    easy = [replace(b, targets=b.targets.where(b.targets == stop, -100)) for b in run.held_out]
    assert exam_on(run, easy) == ["exam too easy"]


def replace_specials(words):
    """A tokenizer to which only padding and [MASK] are special, so that [CLS] and [SEP] are asked for."""

    class Other:
        mask_id, pad_id, vocabulary_size, special_ids = words.mask_id, words.pad_id, words.vocabulary_size, (0, 4)

    return Other()
