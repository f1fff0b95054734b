"""Eight more sick runs that the doctor has not seen: none is a patient of the ward or of the first unseen set.

They were written without a look at the doctor's checks, for one last measurement. One run an area of training. Each
bug was found in public projects; `SICK` says where, and what shows that the run is sick.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import MaskingConfig
from llm_lab.text.batches import Batch, BatchStream
from llm_lab.text.masking import IGNORED
from llm_lab.train.loop import Stream
from llm_lab.train.optimizer import Optimizers
from llm_lab.ward import DATASET, TrainingRun
from llm_lab.ward.run import StreamOf

WORDS = DATASET.tokenizer
CORPUS = DATASET.train[:4800]  # 150 batches of 32


def text_of(row: np.ndarray) -> list[str]:
    """The words of one row, to sort by."""
    return [WORDS.token_of(token) for token in row if token not in WORDS.special_ids]


# -- data --------------------------------------------------------------------------------------------------------------


class InOrder(BatchStream):
    """The rows as they lie in the file."""

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.arange(len(self.rows))


class SortedCorpus(TrainingRun):
    """`sort -u` removed the duplicates and nobody shuffled: neighbours begin alike, the end of an epoch forgets."""

    def __init__(self, **options: Any):
        self.rows = np.array(sorted(CORPUS, key=text_of))
        super().__init__(**options)

    def stream_of(self, rank: int, world_size: int) -> Stream:
        """The stream of one of several processes, from A to Z."""
        return InOrder(self.rows, WORDS, self.masking, self.batch_rows, self.seed, rank, world_size)


# -- masking -----------------------------------------------------------------------------------------------------------


class HardCodedMask(TrainingRun):
    """[MASK] is 103, as in bert-base-uncased; in this vocabulary 103 is a word like any other."""

    mask_id = 103

    def stream_of(self, rank: int, world_size: int) -> Stream:
        """The stream of one of several processes, hidden with another vocabulary's id."""
        plain = super().stream_of(rank, world_size)

        def batch(step: int) -> Batch:
            right = plain.batch(step)
            inputs = right.inputs.masked_fill(right.inputs == WORDS.mask_id, self.mask_id)
            return Batch(inputs, right.positions, right.targets, right.mask)

        return StreamOf(batch)


# -- model -------------------------------------------------------------------------------------------------------------


class PaddingRead(TrainingRun):
    """The attention mask never reaches the model: words attend to the padding, a guess depends on the row's length."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        encoder = self.model.encoder
        right = encoder.forward

        def forward(ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
            return right(ids, None, positions)

        encoder.forward = forward


# -- loss --------------------------------------------------------------------------------------------------------------


class LogForgotten(TrainingRun):
    """`nll_loss` gets softmax where it expects log-softmax: the loss is -p, between 0 and -1."""

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum of -p(hidden word)."""
        p = model(batch.inputs, batch.mask, batch.positions).softmax(dim=-1)
        return F.nll_loss(p.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")


# -- optimizer ---------------------------------------------------------------------------------------------------------


class DecayInGradient(TrainingRun):
    """`Adam(weight_decay=0.01)` where AdamW is meant: the decay joins the gradient and Adam makes full steps of it."""

    kind: type[torch.optim.Optimizer] = torch.optim.Adam

    def __init__(self, **options: Any):
        super().__init__(**options)
        adam = self.kind(self.model.parameters(), lr=5e-3, betas=(0.9, 0.98), weight_decay=0.01)  # type: ignore[call-arg]
        self.optimizers = Optimizers([adam])


# -- schedule ----------------------------------------------------------------------------------------------------------


class CosineOfEpochs(TrainingRun):
    """`CosineAnnealingLR(T_max=epochs)` is stepped after each batch: the rate swings from 0 to its peak and back."""

    epochs = 5

    def factor(self, step: int) -> float:
        """A cosine with a period of 2 * epochs steps."""
        return (1 + math.cos(math.pi * step / self.epochs)) / 2


# -- loop --------------------------------------------------------------------------------------------------------------


class LastPartReported(TrainingRun):
    """Four parts a batch; what is logged is `loss.item()` after the loop, the last part's quarter of the loss."""

    accumulate = 4

    def backward(self, batch: Batch) -> float:
        """The right gradients, and the last part's share of the mean."""
        loss = torch.zeros(())
        for part in batch.split(self.accumulate):
            loss = self.loss_sum(self.model, part) / max(1, batch.num_targets)
            loss.backward()
        return loss.item()


# -- evaluation --------------------------------------------------------------------------------------------------------


class NothingHiddenInEvaluation(TrainingRun):
    """The evaluation has the labels, but nobody masked its inputs: the model copies the words that it should guess."""

    masking = MaskingConfig(rate=0.15, scheme="80/10/10", selection="bernoulli")

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.held_out = [shown(batch) for batch in self.held_out]


def shown(batch: Batch) -> Batch:
    """A batch with its targets in the inputs."""
    counts = batch.targets != IGNORED
    row = counts.nonzero()[:, 0]
    inputs = batch.inputs.clone()
    inputs[row, batch.positions[counts]] = batch.targets[counts]
    return Batch(inputs, batch.positions, batch.targets, batch.mask)


class Unseen(NamedTuple):
    """A sick run, the part of training that is sick, what a diagnosis has to say to count, and how one knows."""

    run: type[TrainingRun]
    area: str
    must_say: str
    evidence: str


# Losses are nats a target, held out at the dataset's own masks, after 150 steps with seed 0, unless said otherwise.
# The plain healthy run reaches 3.62; two healthy runs that differ in accumulation alone differ by 0.02.
SICK = (
    Unseen(
        SortedCorpus,
        "data",
        "the rows are not shuffled: rows of a batch (or batches nearby) are alike, not a random sample of the corpus",
        "4.07 against 3.52 for the same 4,800 rows in random order (pytorch #31771, transformers #3721)",
    ),
    Unseen(
        HardCodedMask,
        "masking",
        "hidden words are replaced by an ordinary word (id 103), not by the tokenizer's [MASK]; [MASK] never occurs",
        "4.96 against 3.62, and rising, while its training loss looks normal (3.90) (FARM #804, pegasus #231)",
    ),
    Unseen(
        PaddingRead,
        "model",
        "padding is attended to: the attention mask has no effect (or: what stands in, or how much, padding counts)",
        "3.73 against 3.62; 300 sentences cost 3.72 padded to 26, 3.94 to 40, 9.41 to 64 (simpletransformers #1334)",
    ),
    Unseen(
        LogForgotten,
        "loss",
        "the loss is not -log p: it is negative, the logarithm is missing (softmax instead of log-softmax)",
        "14.93 against 3.62; training loss from -0.005 to -0.17 (Text-Classification-Models-Pytorch #9)",
    ),
    Unseen(
        DecayInGradient,
        "optimizer",
        "weight decay is added to the gradient (Adam's L2): use AdamW, or no decay",
        "3.93 against 3.78 with AdamW, all else equal; seed 1: 4.03 against 3.67 (codertimo/BERT-pytorch at 17132a2)",
    ),
    Unseen(
        CosineOfEpochs,
        "schedule",
        "the learning rate goes up and down again and again: the schedule's period is far shorter than the run",
        "3.99 against 3.62; 15 cycles in 150 steps (ivadomed #57, prodigy #10)",
    ),
    Unseen(
        LastPartReported,
        "loop",
        "the loss that a step reports isn't the mean loss of its batch: far too small, one part of the accumulation",
        "first loss 1.82 for 5.25, last ten 1.67 for 3.79, at the same weights (allennlp #4706, espnet #5090)",
    ),
    Unseen(
        NothingHiddenInEvaluation,
        "evaluation",
        "the held-out inputs are not masked, the targets stand in them: the held-out loss is too good",
        "reports 1.71; with masks the same weights cost 3.77, and its training loss is 3.85 (transformers #1633)",
    ),
)
