"""Our model as one of `transformers`, and back, with the same logits.

Two of our shapes have a twin there: the default one is ModernBERT with global attention (arXiv 2412.13663), and
`BERT_SHAPE` is BERT (arXiv 1810.04805). `transformers` is an optional package (the extra `hub`).
"""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
from torch import Tensor

from llm_lab.config import BERT_SHAPE, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.model.positions import ROTARY_BASE
from llm_lab.text.tokenizer import Tokenizer, TokenizerError


class ExportError(ValueError):
    """A model without a twin on the other side; the message says why, and what to do."""


MODERN_BERT, BERT = "ModernBertForMaskedLM", "BertForMaskedLM"
SHARED = {"architecture": "transformer", "convolution": 0, "norm_kind": "layer"}  # what both twins need
SHAPES: dict[str, dict[str, Any]] = {
    MODERN_BERT: {"positions": "rotary", "norm_place": "pre", "feed_forward": "geglu", "biases": False},
    BERT: {name: value for name, value in BERT_SHAPE.items() if name != "norm_epsilon"},  # any epsilon will do
}
SEGMENTS = "bert.embeddings.token_type_embeddings.weight"  # which of two texts a token belongs to
TIED = {"decoder.weight", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}  # second names, both twins
# What their configurations must say for our model to compute the same.
THEIR_SETTINGS: dict[str, dict[str, Any]] = {
    MODERN_BERT: {
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "attention_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "tie_word_embeddings": True,
    },
    BERT: {"hidden_act": "gelu", "is_decoder": False, "tie_word_embeddings": True},
}


def twin_of(config: ModelConfig) -> str:
    """The class of `transformers` that computes what this architecture does. Raises ExportError if there is none."""
    for name, needed in SHARED.items():
        if getattr(config, name) != needed:
            raise ExportError(
                f"transformers has no model with {name} {getattr(config, name)!r}: "
                f"train one with {name} {needed!r} to export it."
            )
    ours = {name: getattr(config, name) for name in SHAPES[BERT]}
    for twin, shape in SHAPES.items():
        if ours == shape:
            return twin
    raise ExportError(
        f"transformers has no model with {_words(ours)}: "
        f"to export one, train it with {_words(SHAPES[MODERN_BERT])}, or with {_words(SHAPES[BERT])}."
    )


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in settings.items())


def to_transformers(model: MaskedLanguageModel, tokenizer: Tokenizer, **options: Any) -> Any:
    """The twin of the same shape with our weights; `options` go to its configuration. Raises ExportError."""
    twin, config, library = twin_of(model.config), model.config, require_transformers()
    shared = {
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "max_position_embeddings": config.max_length,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.cls_id,
        "eos_token_id": tokenizer.sep_id,
    }
    if twin == BERT:
        dropout = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": 0.0}
        own: dict[str, Any] = {"layer_norm_eps": config.norm_epsilon, **dropout}
        theirs = library.BertForMaskedLM(library.BertConfig(**{**shared, **own, **options}))
    else:
        rotary = {"rope_type": "default", "rope_theta": ROTARY_BASE}
        own = {
            "norm_eps": config.norm_epsilon,
            "layer_types": ["full_attention"] * config.num_layers,
            "rope_parameters": {"full_attention": rotary, "sliding_attention": rotary},
            "cls_token_id": tokenizer.cls_id,
            "sep_token_id": tokenizer.sep_id,
        }
        theirs = library.ModernBertForMaskedLM(library.ModernBertConfig(**{**shared, **own, **options}))
    theirs.to(next(model.parameters()).dtype)
    ours = model.state_dict()
    state = {their: torch.cat([ours[name] for name in names]) for their, names in _names(model.config).items()}
    if twin == BERT:  # we have one text: this adds nothing
        state[SEGMENTS] = torch.zeros_like(theirs.state_dict()[SEGMENTS])
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    if unexpected or not set(missing) <= TIED:
        raise ExportError(f"this version of transformers names its weights otherwise ({missing}): install 5.x.")
    theirs.tie_weights()
    return theirs.eval()


def from_transformers(theirs: Any) -> MaskedLanguageModel:
    """Our model with the weights of a `BertForMaskedLM` or a `ModernBertForMaskedLM`, ready for use.

    BERT's vector for "first text" is added to every position's. Raises ExportError for a model that ours can't be.
    """
    twin, their_config = type(theirs).__name__, theirs.config
    if twin not in SHAPES:
        raise ExportError(f"there is no way from a {twin} to our model: give a {BERT} or a {MODERN_BERT}.")
    for name, needed in THEIR_SETTINGS[twin].items():
        if getattr(their_config, name) != needed:
            raise ExportError(f"this {twin} has {name} {getattr(their_config, name)!r}: ours needs {needed!r}.")
    if twin == MODERN_BERT:
        _require_global_attention(their_config)
    config = ModelConfig(
        vocabulary_size=their_config.vocab_size,
        width=their_config.hidden_size,
        num_layers=their_config.num_hidden_layers,
        num_heads=their_config.num_attention_heads,
        feed_forward_width=their_config.intermediate_size,
        max_length=their_config.max_position_embeddings,
        norm_epsilon=their_config.layer_norm_eps if twin == BERT else their_config.norm_eps,
        dropout=their_config.hidden_dropout_prob if twin == BERT else 0.0,
        **SHAPES[twin],
    )
    state = theirs.state_dict()
    ours: dict[str, Tensor] = {}
    for their, names in _names(config).items():
        ours |= dict(zip(names, state[their].chunk(len(names)), strict=True))
    if twin == BERT:
        ours["encoder.added.table"] = ours["encoder.added.table"] + state[SEGMENTS][0]
    model = MaskedLanguageModel(config).to(theirs.dtype)
    model.load_state_dict(ours)
    return model.eval()


def _require_global_attention(their_config: Any) -> None:
    """Raise ExportError unless every layer of a ModernBERT sees the whole row, turned as ours is."""
    base = their_config.rope_parameters["full_attention"]
    if set(their_config.layer_types) != {"full_attention"}:
        raise ExportError("this model has layers that see the nearest tokens alone: ours see the whole row.")
    if base["rope_theta"] != ROTARY_BASE or base["rope_type"] != "default":
        raise ExportError(f"this model's rotary positions are {base}: ours have the base {ROTARY_BASE:g}.")


def to_transformers_tokenizer(tokenizer: Tokenizer, max_length: int) -> Any:
    """The same tokenizer behind the interface of `transformers`."""
    return require_transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.core,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def from_transformers_tokenizer(their_tokenizer: Any) -> Tokenizer:
    """Ours from a fast tokenizer of theirs. Raises ExportError for one without [PAD], [UNK], [CLS], [SEP] or [MASK]."""
    theirs = getattr(their_tokenizer, "backend_tokenizer", None)
    if theirs is None:
        raise ExportError(f"{type(their_tokenizer).__name__} is no fast tokenizer: ours is made of a tokenizer.json.")
    core = tokenizers.Tokenizer.from_str(theirs.to_str())
    core.no_padding()  # a call such as their_tokenizer(texts, padding=True) leaves these switched on
    core.no_truncation()
    try:
        return Tokenizer(core)
    except TokenizerError as error:
        raise ExportError(f"this tokenizer can't be ours: {error}") from error


def _names(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Their name for each weight -> ours; several of ours are stacked into one of theirs, in this order."""
    return _bert_names(config) if config.norm_place == "post" else _modern_bert_names(config)


def _modern_bert_names(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "model.embeddings.tok_embeddings.weight": ("encoder.embedding.weight",),
        "model.embeddings.norm.weight": ("encoder.embedding_norm.weight",),
        "model.final_norm.weight": ("encoder.final_norm.weight",),
        "head.dense.weight": ("head.dense.weight",),
        "head.norm.weight": ("head.norm.weight",),
        "decoder.bias": ("head.bias",),
    }
    layer = {
        "attn_norm": ("attention_norm",),
        "attn.Wqkv": ("attention.query", "attention.key", "attention.value"),
        "attn.Wo": ("attention.output",),
        "mlp_norm": ("feed_forward_norm",),
        "mlp.Wi": ("feed_forward.gate", "feed_forward.up"),
        "mlp.Wo": ("feed_forward.down",),
    }
    for i in range(config.num_layers):
        for theirs, ours in layer.items():
            names[f"model.layers.{i}.{theirs}.weight"] = tuple(f"encoder.blocks.{i}.{one}.weight" for one in ours)
    del names["model.layers.0.attn_norm.weight"]  # the first block takes its input already normalised, there as here
    return names


def _bert_names(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "bert.embeddings.word_embeddings.weight": ("encoder.embedding.weight",),
        "bert.embeddings.position_embeddings.weight": ("encoder.added.table",),
        "cls.predictions.bias": ("head.bias",),
    }
    parts = {
        "bert.embeddings.LayerNorm": "encoder.embedding_norm",
        "cls.predictions.transform.dense": "head.dense",
        "cls.predictions.transform.LayerNorm": "head.norm",
    }
    layer = {
        "attention.self.query": "attention.query",
        "attention.self.key": "attention.key",
        "attention.self.value": "attention.value",
        "attention.output.dense": "attention.output",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "feed_forward.up",
        "output.dense": "feed_forward.down",
        "output.LayerNorm": "feed_forward_norm",
    }
    for i in range(config.num_layers):
        parts |= {f"bert.encoder.layer.{i}.{theirs}": f"encoder.blocks.{i}.{ours}" for theirs, ours in layer.items()}
    for theirs, ours in parts.items():
        names |= {f"{theirs}.{kind}": (f"{ours}.{kind}",) for kind in ("weight", "bias")}
    return names


def require_transformers() -> Any:
    """The library, imported. Raises ExportError, in one sentence, where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise ExportError("transformers is not installed: pip install transformers, or the extra `hub`.") from error
    return transformers
