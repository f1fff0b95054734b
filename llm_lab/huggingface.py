"""Our model as one of `transformers`: ModernBERT with global attention (arXiv 2412.13663), with the same logits.

`transformers` is an optional package (the extra `hub`); it is imported when something here is called.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_lab.config import ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.model.positions import ROTARY_BASE
from llm_lab.tasks.pretrained import Pretrained
from llm_lab.text.tokenizer import Tokenizer


class ExportError(ValueError):
    """A model that can't be exported; the message says why, and what to do."""


def export(pretrained: Pretrained, folder: Path | str) -> None:
    """Write a folder that `AutoModelForMaskedLM` and `AutoTokenizer` load without a network.

    Raises ExportError for an architecture that `transformers` doesn't have, for a folder that isn't empty, or when
    `transformers` is missing.
    """
    folder = Path(folder)
    require_twin(pretrained.model.config)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} already holds something: choose another folder.")
    their_tokenizer = to_transformers_tokenizer(pretrained.tokenizer, pretrained.model.config.max_length)
    their_model = to_transformers(pretrained.model, pretrained.tokenizer)
    os.makedirs(folder, exist_ok=True)
    their_tokenizer.save_pretrained(folder)
    their_model.save_pretrained(folder)


def require_twin(config: ModelConfig) -> None:
    """Raise ExportError unless `transformers` has this architecture."""
    ours = {"architecture": config.architecture, "positions": config.positions, "convolution": config.convolution}
    for name, needed in (("architecture", "transformer"), ("positions", "rotary"), ("convolution", 0)):
        if ours[name] != needed:
            raise ExportError(
                f"transformers has no model with {name} {ours[name]!r}: train one with {name} {needed!r} to export it."
            )


def to_transformers(model: MaskedLanguageModel, tokenizer: Tokenizer, **options: Any) -> Any:
    """A `ModernBertForMaskedLM` of the same shape with our weights; `options` go to its configuration."""
    require_twin(model.config)
    library = _transformers()
    config, rotary = model.config, {"rope_type": "default", "rope_theta": ROTARY_BASE}
    theirs = library.ModernBertForMaskedLM(
        library.ModernBertConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.width,
            intermediate_size=config.feed_forward_width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=config.max_length,
            layer_types=["full_attention"] * config.num_layers,
            rope_parameters={"full_attention": rotary, "sliding_attention": rotary},
            pad_token_id=tokenizer.pad_id,
            cls_token_id=tokenizer.cls_id,
            bos_token_id=tokenizer.cls_id,
            sep_token_id=tokenizer.sep_id,
            eos_token_id=tokenizer.sep_id,
            **options,
        )
    )
    theirs.to(next(model.parameters()).dtype)
    missing, unexpected = theirs.load_state_dict(_their_names(model), strict=False)
    if unexpected or not set(missing) <= {"decoder.weight"}:  # the decoder is tied to the embedding
        raise ExportError(f"this version of transformers names its weights otherwise ({missing}): install 5.x.")
    theirs.tie_weights()
    return theirs.eval()


def to_transformers_tokenizer(tokenizer: Tokenizer, max_length: int) -> Any:
    """The same tokenizer behind the interface of `transformers`."""
    return _transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.core,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _their_names(model: MaskedLanguageModel) -> dict[str, Tensor]:
    """Our weights under their names; queries, keys and values are one matrix there, as are gate and up."""
    encoder: Any = model.encoder  # an Encoder: `require_twin` saw to it
    head = model.head
    state = {
        "model.embeddings.tok_embeddings.weight": encoder.embedding.weight,
        "model.embeddings.norm.weight": encoder.embedding_norm.weight,
        "model.final_norm.weight": encoder.final_norm.weight,
        "head.dense.weight": head.dense.weight,
        "head.norm.weight": head.norm.weight,
        "decoder.bias": head.bias,
    }
    for i, block in enumerate(encoder.blocks):
        attention, forward = block.attention, block.feed_forward
        layer = {
            "attn.Wqkv.weight": torch.cat((attention.query.weight, attention.key.weight, attention.value.weight)),
            "attn.Wo.weight": attention.output.weight,
            "mlp_norm.weight": block.feed_forward_norm.weight,
            "mlp.Wi.weight": torch.cat((forward.gate.weight, forward.up.weight)),
            "mlp.Wo.weight": forward.down.weight,
        }
        if i > 0:  # the first block takes its input already normalised, there as here
            layer["attn_norm.weight"] = block.attention_norm.weight
        state |= {f"model.layers.{i}.{name}": weight for name, weight in layer.items()}
    return {name: weight.detach() for name, weight in state.items()}


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ExportError("transformers is not installed: pip install transformers, or the extra `hub`.") from error
    return transformers
