"""The same model in transformers: ModernBERT with global attention, and a copy of our weights."""

import pytest
import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM
from transformers.models.modernbert import modeling_modernbert

from llm_lab.model.heads import MaskedLanguageModel


def rotate_without_rounding(query, key, cosine, sine, unsqueeze_dim):
    """transformers' rotation without its rounding to fp32."""
    cosine, sine = cosine.unsqueeze(unsqueeze_dim), sine.unsqueeze(unsqueeze_dim)
    half = modeling_modernbert.rotate_half
    return query * cosine + half(query) * sine, key * cosine + half(key) * sine


@pytest.fixture
def in_fp64(monkeypatch):
    """transformers' model rounds rotated queries and keys to fp32 in every format: here it may not."""
    monkeypatch.setattr(modeling_modernbert, "apply_rotary_pos_emb", rotate_without_rounding)


def modern_bert(ours: MaskedLanguageModel, attention: str = "sdpa") -> ModernBertForMaskedLM:
    """Build transformers' model of this shape and give it our weights."""
    config = ours.config
    full = {"rope_type": "default", "rope_theta": 10_000.0}
    theirs = ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.width,
            intermediate_size=config.feed_forward_width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=config.max_length,
            layer_types=["full_attention"] * config.num_layers,
            rope_parameters={"full_attention": full, "sliding_attention": full},
            pad_token_id=0,
            cls_token_id=2,
            bos_token_id=2,
            sep_token_id=3,
            eos_token_id=3,
            attn_implementation=attention,
        )
    )
    theirs.to(next(ours.parameters()).dtype)
    missing, unexpected = theirs.load_state_dict(their_names(ours), strict=False)
    assert not unexpected and set(missing) <= {"decoder.weight"}, (missing, unexpected)  # the decoder is tied
    theirs.tie_weights()
    return theirs.eval()


def their_names(ours: MaskedLanguageModel) -> dict[str, torch.Tensor]:
    """Our weights under transformers' names."""
    encoder, head = ours.encoder, ours.head
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
        if i > 0:
            layer["attn_norm.weight"] = block.attention_norm.weight
        state |= {f"model.layers.{i}.{name}": weight for name, weight in layer.items()}
    return {name: weight.detach() for name, weight in state.items()}
