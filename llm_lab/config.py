"""Every choice of a run, in three frozen dataclasses. An impossible combination raises when it is built.

The command line makes a flag of each field; the `help` of a field is the flag's explanation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its explanation, units included."""
    return field(default=default, metadata={"help": help})


def require(condition: bool, sentence: str) -> None:
    """Raise `ValueError(sentence)` unless the condition holds."""
    if not condition:
        raise ValueError(sentence)


def require_choices(config: Any, **choices: tuple[str, ...]) -> None:
    """Raise `ValueError` unless each named field of the config is one of its choices."""
    for name, kinds in choices.items():
        given = getattr(config, name)
        require(given in kinds, f"{name} is {given!r}: choose one of {', '.join(kinds)}.")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of an encoder. The defaults are ModernBERT's choices (arXiv 2412.13663) with global attention.

    `num_heads`, `positions`, `norm_place` and `convolution` are the Transformer's alone, `window` the window model's;
    the recurrent models (rnn, lstm, bilstm) have no feed-forward, and the matrices inside of them always have biases.
    """

    vocabulary_size: int = setting(8192, "entries of the vocabulary")
    width: int = setting(256, "numbers that describe one token (E)")
    num_layers: int = setting(4, "blocks")
    num_heads: int = setting(4, "attention heads of a block (H)")
    feed_forward_width: int = setting(704, "hidden units of the feed-forward part")
    max_length: int = setting(512, "longest row that the model accepts, in tokens")
    positions: str = setting("rotary", "rotary, learned, sinusoidal, alibi or none")
    norm_place: str = setting("pre", "pre: x + f(norm(x)), with a last norm; post: norm(x + f(x)), as in BERT")
    norm_kind: str = setting("layer", "layer: LayerNorm (mean and variance); rms: RMSNorm (size alone, no bias)")
    norm_epsilon: float = setting(1e-5, "what a norm adds to the variance, so that it never divides by zero")
    feed_forward: str = setting("geglu", "geglu: three matrices, one of them a gate; gelu: two, as in BERT")
    biases: bool = setting(False, "a bias in every linear layer and every LayerNorm")
    dropout: float = setting(0.0, "share of activations dropped in training")
    convolution: int = setting(0, "words that a convolution before each attention mixes, an odd number; 0 for none")
    architecture: str = setting("transformer", "transformer, rnn, lstm, bilstm or window")
    window: int = setting(2, "words that a window model sees to each side")

    def __post_init__(self) -> None:
        sizes = ("vocabulary_size", "width", "num_layers", "num_heads", "feed_forward_width", "max_length")
        for name in sizes:
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: give at least 1.")
        require(
            self.width % self.num_heads == 0,
            f"width {self.width} can't be divided among {self.num_heads} heads: choose a multiple of num_heads.",
        )
        require_choices(
            self,
            positions=("rotary", "learned", "sinusoidal", "alibi", "none"),
            norm_place=("pre", "post"),
            norm_kind=("layer", "rms"),
            feed_forward=("geglu", "gelu"),
            architecture=("transformer", "rnn", "lstm", "bilstm", "window"),
        )
        require(self.norm_epsilon > 0, f"norm_epsilon is {self.norm_epsilon}: give a number above 0.")
        even = self.positions not in ("rotary", "sinusoidal") or (self.width // self.num_heads) % 2 == 0
        require(even, f"a head is {self.width // self.num_heads} wide: {self.positions} positions need an even width.")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}: choose a share from 0 up to, not including, 1.")
        odd = self.convolution == 0 or self.convolution % 2 == 1
        require(odd and self.convolution >= 0, f"convolution is {self.convolution}: give 0 or an odd number of words.")
        require(self.window >= 0, f"window is {self.window}: give 0 words or more.")


# What makes a ModelConfig BERT's (arXiv 1810.04805): `replace(config, **BERT_SHAPE)`. BERT's feed-forward is 4 E wide.
BERT_SHAPE: dict[str, Any] = {
    "positions": "learned",
    "norm_place": "post",
    "norm_epsilon": 1e-12,
    "feed_forward": "gelu",
    "biases": True,
}


@dataclass(frozen=True)
class MaskingConfig:
    """Which tokens are hidden, and what the model sees in their place."""

    rate: float = setting(0.3, "share of the tokens that are chosen as targets, between 0 and 1")
    scheme: str = setting("pure", "pure: all chosen become [MASK]; 80/10/10: BERT's mixture (arXiv 1810.04805)")
    selection: str = setting("exact", "exact: the same count in every row; bernoulli: each token by itself")

    def __post_init__(self) -> None:
        require(0 < self.rate < 1, f"the mask rate is {self.rate}: choose a share between 0 and 1, such as 0.15.")
        require(self.scheme in ("pure", "80/10/10"), f"scheme is {self.scheme!r}: choose pure or 80/10/10.")
        kinds = ("exact", "bernoulli")
        require(self.selection in kinds, f"selection is {self.selection!r}: choose exact or bernoulli.")


EVALUATION_MASKING = MaskingConfig(rate=0.15, scheme="pure", selection="exact")  # fixed for all held-out losses


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    steps: int = setting(1000, "updates of the weights")
    batch_rows: int = setting(32, "rows of a batch, over all processes")
    row_length: int = setting(128, "tokens of a row (T)")
    learning_rate: float = setting(2e-3, "peak of the schedule")
    optimizer: str = setting("muon", "muon: Muon for hidden matrices and AdamW for the rest; adamw: AdamW for all")
    weight_decay: float = setting(0.05, "pull of the matrices towards zero, times the learning rate, per step")
    warmup: float = setting(0.05, "share of the steps in which the learning rate climbs")
    decay: float = setting(0.4, "share of the steps, at the end, in which it falls to zero")
    clip: float = setting(1.0, "largest norm of all gradients together")
    accumulate: int = setting(1, "parts into which a batch is cut to fit into memory")
    evaluate_every: int = setting(200, "steps from one held-out loss to the next")
    evaluate_rows: int = setting(256, "held-out rows used during training; the last evaluation uses all")
    checkpoint_every: int = setting(200, "steps from one checkpoint to the next")
    precision: str = setting("auto", "auto, fp32, bf16 or fp16")
    device: str = setting("auto", "auto, cpu, cuda or mps")
    compile: bool = setting(False, "join small operations by torch.compile: half a minute first, then faster on a GPU")
    seed: int = setting(0, "start of every random draw: weights, order of rows, masks")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_rows", "row_length", "accumulate", "evaluate_every", "evaluate_rows"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: give at least 1.")
        require(self.checkpoint_every >= 1, f"checkpoint_every is {self.checkpoint_every}: give at least 1.")
        require(self.row_length >= 8, f"row_length is {self.row_length}: give at least 8 tokens.")
        require(
            self.batch_rows % self.accumulate == 0,
            f"{self.batch_rows} rows can't be cut into {self.accumulate} equal parts: change batch_rows or accumulate.",
        )
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}: give a number above 0.")
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}: give 0 or more.")
        require(self.clip > 0, f"clip is {self.clip}: give a number above 0.")
        require(self.seed >= 0, f"seed is {self.seed}: give 0 or more.")
        shares = 0 <= self.warmup and 0 <= self.decay and self.warmup + self.decay <= 1
        require(shares, f"warmup {self.warmup} and decay {self.decay} are shares of the run: together at most 1.")
        require_choices(
            self,
            optimizer=("muon", "adamw"),
            precision=("auto", "fp32", "bf16", "fp16"),
            device=("auto", "cpu", "cuda", "mps"),
        )


@dataclass(frozen=True)
class Size:
    """A model and the way of training that suits it: the defaults behind `--size`."""

    model: ModelConfig
    train: TrainConfig
    masking: MaskingConfig = field(default_factory=MaskingConfig)


def _sentences(size: Size) -> Size:
    """The same model on a known language: one sentence a row, masked as the oracle assumes."""
    train = replace(size.train, row_length=26, batch_rows=128, accumulate=4, steps=3000, learning_rate=3e-3)
    return Size(size.model, train, MaskingConfig(selection="bernoulli"))


SIZES: dict[str, Size] = {
    "tiny": Size(
        ModelConfig(width=128, num_layers=2, num_heads=4, feed_forward_width=352),
        TrainConfig(steps=1100, batch_rows=32, row_length=64, learning_rate=6e-3),
    ),
    "small": Size(
        ModelConfig(width=256, num_layers=4, num_heads=4, feed_forward_width=704),
        TrainConfig(steps=3000, batch_rows=32, row_length=128, learning_rate=4e-3),
    ),
    "base": Size(
        ModelConfig(width=512, num_layers=9, num_heads=8, feed_forward_width=1408),
        TrainConfig(steps=20_000, batch_rows=256, row_length=128, learning_rate=1e-3),
    ),
}
SENTENCE_SIZES = {name: _sentences(size) for name, size in SIZES.items()}
