"""The package's own Trainer under examination, on real text: sound as it is, and with a bug put into it."""

from __future__ import annotations

import pytest
import torch

from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum, score
from llm_lab.tasks.pretraining import held_out_batches
from llm_lab.train.doctor import examine, subject_of
from llm_lab.train.loop import Trainer
from tests.train.doctor.runs import names
from tests.train.doctor.test_untouched import equal, state_of


@pytest.fixture
def trainer(tiny_dataset, tmp_path):
    return trainer_on(tiny_dataset, tmp_path)


def trainer_on(dataset, folder, masking=None, **changes):
    """What `tasks.pretraining.pretrain` builds, small."""
    masking = masking or MaskingConfig()
    torch.manual_seed(0)
    shape = {"width": 32, "num_layers": 2, "feed_forward_width": 64, "max_length": 16}
    model = MaskedLanguageModel(ModelConfig(vocabulary_size=dataset.tokenizer.vocabulary_size, **shape))
    config = TrainConfig(
        **{"steps": 50, "batch_rows": 8, "row_length": 16, "device": "cpu", "precision": "fp32", **changes}
    )
    held_out = held_out_batches(dataset)
    stream = dataset.stream(masking, config.batch_rows, 0)
    return Trainer(model, stream, loss_sum, config, folder, lambda m: score(m, held_out), show_progress=False)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 4}, {"optimizer": "adamw", "learning_rate": 3e-3}], ids=str)
def test_the_packages_run_on_packed_text_is_sound(tiny_dataset, tmp_path, changes):
    trainer = trainer_on(tiny_dataset, tmp_path, **changes)
    assert trainer.stream.batch(0).mask is None

    def stream_of(rank, world_size):
        return tiny_dataset.stream(MaskingConfig(), 8, 0, rank, world_size)

    subject = subject_of(trainer, tiny_dataset.tokenizer, stream_of)
    before = state_of(subject)
    assert examine(subject) == []
    assert equal(before, state_of(subject)) and trainer.step == 0 and not list(tmp_path.iterdir())


def test_examined_or_not_it_trains_to_the_same_numbers(tiny_dataset, tmp_path):
    first, second = (trainer_on(tiny_dataset, tmp_path / name, steps=4) for name in "ab")
    examine(subject_of(first, tiny_dataset.tokenizer))
    records = [[{k: v for k, v in r.items() if k != "seconds"} for r in run.run()] for run in (first, second)]
    assert records[0] == records[1]


def test_the_subjects_parts_are_the_trainers(trainer, tiny_dataset):
    subject = subject_of(trainer, tiny_dataset.tokenizer)
    for step in (0, 1, 30, 49, 60):
        trainer.step = step
        assert subject.schedule(7) == subject.schedule(7) and trainer.step == step
        expected = trainer.factor()
        trainer.step = 0
        assert subject.schedule(step) == expected
    assert subject.evaluate() == pytest.approx(trainer.evaluate(trainer.model)["held_out_loss"])
    assert subject.resumed(3).batch(3).inputs.tolist() == trainer.stream.batch(3).inputs.tolist()
    trainer.evaluate = None
    assert subject_of(trainer, tiny_dataset.tokenizer).evaluate is None


def test_a_trainer_that_runs_differently_is_found_out(trainer, tiny_dataset):
    trainer.loss_sum = lambda model, batch: loss_sum(model, batch) / max(1, batch.num_targets)
    assert names(examine(subject_of(trainer, tiny_dataset.tokenizer))) == ["mean, not a sum"]


def test_a_step_that_raises_leaves_the_trainer_where_it_was(trainer, tiny_dataset):
    subject = subject_of(trainer, tiny_dataset.tokenizer)
    before = state_of(subject)
    trainer._train_step = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        examine(subject)
    assert trainer.step == 0 and equal(before, state_of(subject))


def test_a_run_under_way_is_refused(trainer, tiny_dataset):
    trainer.step = 3
    with pytest.raises(ValueError, match="this run is at step 3"):
        subject_of(trainer, tiny_dataset.tokenizer)
