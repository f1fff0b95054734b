"""Configs: every impossible choice is refused in a sentence, every size is as large as promised."""

from dataclasses import FrozenInstanceError, fields

import pytest

from llm_lab.config import BERT_SHAPE, EVALUATION_MASKING, SIZES, MaskingConfig, ModelConfig, TrainConfig

IMPOSSIBLE = [
    (ModelConfig, {"vocabulary_size": 0}, "vocabulary_size is 0"),
    (ModelConfig, {"width": 0}, "width is 0"),
    (ModelConfig, {"num_layers": -1}, "num_layers is -1"),
    (ModelConfig, {"num_heads": 0}, "num_heads is 0"),
    (ModelConfig, {"feed_forward_width": 0}, "feed_forward_width is 0"),
    (ModelConfig, {"max_length": 0}, "max_length is 0"),
    (ModelConfig, {"width": 10, "num_heads": 4}, "can't be divided among 4 heads"),
    (ModelConfig, {"width": 9, "num_heads": 3}, "a head is 3 wide"),
    (ModelConfig, {"width": 9, "num_heads": 3, "positions": "sinusoidal"}, "a head is 3 wide"),
    (ModelConfig, {"positions": "relative"}, "choose one of rotary, learned, sinusoidal, alibi, none."),
    (ModelConfig, {"norm_place": "middle"}, "norm_place is 'middle': choose one of pre, post."),
    (ModelConfig, {"norm_kind": "batch"}, "norm_kind is 'batch': choose one of layer, rms."),
    (ModelConfig, {"norm_epsilon": 0.0}, "norm_epsilon is 0.0: give a number above 0."),
    (ModelConfig, {"feed_forward": "relu"}, "feed_forward is 'relu': choose one of geglu, gelu."),
    (ModelConfig, {"dropout": 1.0}, "dropout is 1.0"),
    (ModelConfig, {"dropout": -0.1}, "dropout is -0.1"),
    (ModelConfig, {"architecture": "gru"}, "choose one of transformer, rnn, lstm, bilstm, window."),
    (ModelConfig, {"window": -1}, "window is -1: give 0 words or more."),
    (MaskingConfig, {"rate": 0.0}, "the mask rate is 0.0: choose a share between 0 and 1"),
    (MaskingConfig, {"rate": 1.0}, "the mask rate is 1.0"),
    (MaskingConfig, {"rate": 1.5}, "the mask rate is 1.5"),
    (MaskingConfig, {"rate": -0.1}, "the mask rate is -0.1"),
    (MaskingConfig, {"rate": float("nan")}, "the mask rate is nan"),
    (MaskingConfig, {"scheme": "90/10"}, "choose pure or 80/10/10"),
    (MaskingConfig, {"selection": "some"}, "choose exact or bernoulli"),
    (TrainConfig, {"steps": 0}, "steps is 0"),
    (TrainConfig, {"batch_rows": 0}, "batch_rows is 0"),
    (TrainConfig, {"row_length": 0}, "row_length is 0"),
    (TrainConfig, {"row_length": 7}, "give at least 8 tokens"),
    (TrainConfig, {"accumulate": 0}, "accumulate is 0"),
    (TrainConfig, {"evaluate_every": 0}, "evaluate_every is 0"),
    (TrainConfig, {"evaluate_rows": 0}, "evaluate_rows is 0"),
    (TrainConfig, {"checkpoint_every": 0}, "checkpoint_every is 0"),
    (TrainConfig, {"batch_rows": 32, "accumulate": 3}, "32 rows can't be cut into 3 equal parts"),
    (TrainConfig, {"learning_rate": 0.0}, "learning_rate is 0.0"),
    (TrainConfig, {"learning_rate": float("nan")}, "learning_rate is nan"),
    (TrainConfig, {"weight_decay": -0.1}, "weight_decay is -0.1"),
    (TrainConfig, {"clip": 0.0}, "clip is 0.0"),
    (TrainConfig, {"warmup": -0.1}, "warmup -0.1"),
    (TrainConfig, {"decay": -0.1}, "decay -0.1"),
    (TrainConfig, {"warmup": 0.7, "decay": 0.4}, "together at most 1"),
    (TrainConfig, {"optimizer": "sgd"}, "choose one of muon, adamw"),
    (TrainConfig, {"precision": "int8"}, "choose one of auto, fp32, bf16, fp16"),
    (TrainConfig, {"device": "tpu"}, "choose one of auto, cpu, cuda, mps"),
    (TrainConfig, {"seed": -1}, "seed is -1"),
]


@pytest.mark.parametrize(("config", "choice", "words"), IMPOSSIBLE, ids=[f"{c.__name__} {d}" for c, d, _ in IMPOSSIBLE])
def test_an_impossible_choice_is_refused_in_one_sentence(config, choice, words):
    with pytest.raises(ValueError) as caught:
        config(**choice)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        (ModelConfig, {"width": 9, "num_heads": 3, "positions": "learned"}),  # only turning and waves need pairs
        (ModelConfig, {"width": 9, "num_heads": 3, "positions": "alibi"}),
        (ModelConfig, {"norm_kind": "rms", "biases": True}),  # the norms have none, the linear layers do
        (ModelConfig, BERT_SHAPE),
        (ModelConfig, {"dropout": 0.99}),
        (ModelConfig, {"architecture": "window", "window": 0}),  # word frequencies alone
        (ModelConfig, {"architecture": "bilstm"}),
        (MaskingConfig, {"rate": 0.999, "scheme": "80/10/10", "selection": "bernoulli"}),
        (TrainConfig, {"warmup": 0.6, "decay": 0.4}),
        (TrainConfig, {"warmup": 0.0, "decay": 0.0, "weight_decay": 0.0}),
        (TrainConfig, {"row_length": 8, "steps": 1, "batch_rows": 3, "accumulate": 3}),
    ],
)
def test_the_last_possible_choice_is_taken(config, choice):
    built = config(**choice)
    assert {name: getattr(built, name) for name in choice} == choice
    with pytest.raises(FrozenInstanceError):
        setattr(built, next(iter(choice)), None)


@pytest.mark.parametrize("config", [ModelConfig, MaskingConfig, TrainConfig])
def test_every_field_is_explained_and_becomes_a_flag(config):
    for field in fields(config):
        assert field.metadata["help"].strip(), field.name
        assert field.type in ("int", "float", "str", "bool"), field.name


@pytest.mark.parametrize(("size", "millions", "width", "layers"), [("tiny", 1.5, 128, 2), ("small", 5, 256, 4)])
def test_a_size_is_as_large_as_promised(size, millions, width, layers):
    model = SIZES[size].model
    assert (model.width, model.num_layers) == (width, layers)
    assert count_by_hand(model) / 1e6 == pytest.approx(millions, rel=0.1)


def test_base_has_about_34_million_parameters():
    assert count_by_hand(SIZES["base"].model) / 1e6 == pytest.approx(34, rel=0.1)


def count_by_hand(model):
    """Parameters of the encoder and its head, from the formulas of their parts."""
    e, f, v, n = model.width, model.feed_forward_width, model.vocabulary_size, model.num_layers
    block = 4 * e * e + 3 * e * f + 2 * e
    return v * e + e + n * block - e + e + (e * e + e + v)


def test_fields_that_came_later_have_defaults_so_that_older_models_load():
    older = {"vocabulary_size": 300, "width": 128, "num_layers": 2, "num_heads": 4, "feed_forward_width": 352}
    older |= {"max_length": 512, "positions": "rotary", "dropout": 0.0}
    newer = {"convolution": 0, "architecture": "transformer", "window": 2, "norm_place": "pre", "norm_kind": "layer"}
    newer |= {"norm_epsilon": 1e-5, "feed_forward": "geglu", "biases": False}
    assert ModelConfig(**older) == ModelConfig(**older, **newer)
    assert {field.name for field in fields(ModelConfig)} == {*older, *newer}


def test_the_count_by_hand_is_that_of_the_model():
    from llm_lab.model.heads import MaskedLanguageModel, count_parameters

    for size in ("tiny", "small"):
        assert count_parameters(MaskedLanguageModel(SIZES[size].model)) == count_by_hand(SIZES[size].model)


def test_evaluation_masks_are_the_published_15_percent_of_pure_masks():
    assert (EVALUATION_MASKING.rate, EVALUATION_MASKING.scheme, EVALUATION_MASKING.selection) == (0.15, "pure", "exact")
