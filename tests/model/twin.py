"""The same model in transformers, and a way to compare it in fp64."""

import pytest
from transformers import ModernBertForMaskedLM
from transformers.models.modernbert import modeling_modernbert

from llm_lab.huggingface import to_transformers
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.tokenizer import word_tokenizer


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
    return to_transformers(ours, word_tokenizer(["word"]), attn_implementation=attention)
