"""Every choice of a fine-tuning run, in one frozen dataclass; the command line makes a flag of each field."""

from __future__ import annotations

from dataclasses import dataclass

from llm_lab.config import TrainConfig, require, require_choices, setting

# full: the best of three on the documentation's libraries, 100 labels each, one seed; the others are not tuned.
RATES = {"full": 2e-3, "frozen": 1e-2, "lora": 2e-3}
OWN_RATES = ", ".join(f"{mode} {rate:g}" for mode, rate in RATES.items())


@dataclass(frozen=True)
class FinetuningConfig:
    """How a pretrained model learns a task from labelled rows."""

    mode: str = setting("full", "full: all weights learn; frozen: the new layer alone; lora: it and low-rank additions")
    epochs: int = setting(6, "times that every row is read")
    batch_rows: int = setting(32, "rows of a batch")
    row_length: int = setting(128, "tokens of a row at most (T); what is longer is cut")
    learning_rate: float = setting(0.0, f"peak of the schedule; 0: the mode's own, {OWN_RATES}")
    layer_decay: float = setting(0.6, "the learning rate of a layer as a share of the next one's; 1: all layers alike")
    weight_decay: float = setting(0.01, "pull of the matrices towards zero, times the learning rate, per step")
    pooling: str = setting("mean", "what stands for a text: mean, of all its tokens, or first, its [CLS]")
    lora_rank: int = setting(8, "rank of LoRA's additions")
    precision: str = setting("auto", "auto, fp32, bf16 or fp16")
    device: str = setting("auto", "auto, cpu, cuda or mps")
    seed: int = setting(0, "start of every random draw: the new layer, order of rows, held-out rows, dropout")

    def __post_init__(self) -> None:
        require_choices(self, mode=tuple(RATES), pooling=("mean", "first"))
        require(self.epochs >= 1, f"epochs is {self.epochs}: give at least 1.")
        require(self.learning_rate >= 0, f"learning_rate is {self.learning_rate}: give a number above 0.")
        require(0 < self.layer_decay <= 1, f"layer_decay is {self.layer_decay}: choose a share above 0, at most 1.")
        require(self.lora_rank >= 1, f"lora_rank is {self.lora_rank}: give at least 1.")
        self.training(1)  # the loop's own settings complain by themselves

    @property
    def peak(self) -> float:
        """The peak learning rate: the given one, else the mode's own."""
        return self.learning_rate or RATES[self.mode]

    def training(self, steps_per_epoch: int) -> TrainConfig:
        """The settings of the training loop: the rate climbs for a tenth of the steps, then falls in a line to zero.

        A batch is cut into parts of eight rows of similar length, which saves padding and changes nothing else.
        """
        return TrainConfig(
            steps=self.epochs * steps_per_epoch,
            batch_rows=self.batch_rows,
            row_length=self.row_length,
            learning_rate=self.peak,
            optimizer="adamw",
            weight_decay=self.weight_decay,
            warmup=0.1,
            decay=0.9,
            accumulate=self.batch_rows // 8 if self.batch_rows % 8 == 0 else 1,
            evaluate_every=steps_per_epoch,
            checkpoint_every=steps_per_epoch,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
        )
