"""The settings of a fine-tuning run: what they become in the loop, and what is refused."""

import pytest

from llm_lab.tasks.finetuning_config import RATES, FinetuningConfig
from llm_lab.train.schedule import learning_rate_factor


def test_the_loop_gets_the_epochs_as_steps():
    config = FinetuningConfig(epochs=3, batch_rows=8, learning_rate=1e-3, weight_decay=0.2, seed=4).training(25)
    assert (config.steps, config.evaluate_every, config.checkpoint_every) == (75, 25, 25)
    assert (config.batch_rows, config.accumulate, config.learning_rate, config.seed) == (8, 1, 1e-3, 4)
    assert (config.optimizer, config.weight_decay) == ("adamw", 0.2)
    assert FinetuningConfig().training(1).accumulate == 4 and FinetuningConfig(batch_rows=6).training(1).accumulate == 1


def test_the_rate_climbs_and_falls_to_zero():
    config = FinetuningConfig().training(100)
    factors = [learning_rate_factor(step, config.steps, config.warmup, config.decay) for step in range(config.steps)]
    top = factors.index(max(factors))
    assert max(factors) == 1 and abs(top - 60) <= 1
    assert factors[: top + 1] == sorted(factors[: top + 1]) and factors[top:] == sorted(factors[top:], reverse=True)
    assert 0 < factors[-1] < 0.002


@pytest.mark.parametrize("mode", RATES)
def test_a_mode_has_its_own_rate_unless_one_is_given(mode):
    assert FinetuningConfig(mode=mode).peak == RATES[mode] == FinetuningConfig(mode=mode).training(1).learning_rate
    assert FinetuningConfig(mode=mode, learning_rate=0.1).peak == 0.1


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"mode": "half"}, "mode is 'half': choose one of full, frozen, lora"),
        ({"pooling": "each"}, "pooling is 'each': choose one of mean, first"),
        ({"epochs": 0}, "epochs is 0: give at least 1"),
        ({"batch_rows": 0}, "batch_rows is 0: give at least 1"),
        ({"row_length": 7}, "row_length is 7: give at least 8"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0: give a number above 0"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0: choose a share above 0, at most 1"),
        ({"layer_decay": 1.1}, "layer_decay is 1.1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"lora_rank": 0}, "lora_rank is 0: give at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_impossible_settings_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        FinetuningConfig(**change)
