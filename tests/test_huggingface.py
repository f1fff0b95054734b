"""Export: what transformers loads from the folder gives the same logits and the same words."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from llm_lab import cli
from llm_lab.config import ModelConfig
from llm_lab.huggingface import ExportError, export, require_twin
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import fill
from llm_lab.tasks.pretrained import Pretrained, save_pretrained

CONFIG = ModelConfig(width=16, num_layers=3, num_heads=2, feed_forward_width=20, max_length=24)


@pytest.fixture
def pretrained(tiny_tokenizer):
    """A random model, far from its start."""
    torch.manual_seed(3)
    model = MaskedLanguageModel(replace(CONFIG, vocabulary_size=tiny_tokenizer.vocabulary_size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Pretrained(model.eval(), tiny_tokenizer)


@pytest.fixture
def loaded(pretrained, tmp_path):
    """The exported folder as transformers reads it, without a network."""
    export(pretrained, tmp_path / "hf")
    their_model = AutoModelForMaskedLM.from_pretrained(tmp_path / "hf", local_files_only=True)
    return their_model, AutoTokenizer.from_pretrained(tmp_path / "hf", local_files_only=True)


def test_the_loaded_model_gives_our_logits(pretrained, loaded, tiny_dataset):
    their_model, their_tokenizer = loaded
    texts = ["Each [MASK] has a colour.", "The [MASK] of a river and the [MASK]."]
    theirs = their_tokenizer(texts, padding=True, return_tensors="pt")
    for text, ids, mask in zip(texts, theirs["input_ids"], theirs["attention_mask"], strict=True):
        assert ids[mask.bool()].tolist() == pretrained.tokenizer.encode(text)
    with torch.no_grad():
        expected = their_model(input_ids=theirs["input_ids"], attention_mask=theirs["attention_mask"]).logits
        logits = pretrained.model(theirs["input_ids"], theirs["attention_mask"].bool())
    real = theirs["attention_mask"].bool()
    assert (logits - expected)[real].abs().max() < 1e-5 * expected[real].abs().max()


def test_a_fill_mask_pipeline_says_our_words(pretrained, loaded):
    their_model, their_tokenizer = loaded
    specials = set(their_tokenizer.all_special_tokens)
    answers = pipeline("fill-mask", model=their_model, tokenizer=their_tokenizer)("Each [MASK] has a colour.", top_k=12)
    words = [answer["token_str"] for answer in answers if answer["token_str"] not in specials][:5]
    assert words == [
        guess.word for guess in fill(pretrained.model, pretrained.tokenizer, "Each [MASK] has a colour.")[0]
    ]


def test_the_folder_names_the_special_tokens(loaded, pretrained):
    their_model, their_tokenizer = loaded
    assert their_tokenizer.mask_token_id == pretrained.tokenizer.mask_id
    assert their_tokenizer.model_max_length == CONFIG.max_length == their_model.config.max_position_embeddings
    assert their_model.config.pad_token_id == pretrained.tokenizer.pad_id


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"architecture": "bilstm"}, "'bilstm'"),
        ({"architecture": "window"}, "'window'"),
        ({"positions": "learned"}, "'learned'"),
        ({"positions": "none"}, "'none'"),
        ({"convolution": 3}, "convolution 3"),
    ],
)
def test_what_transformers_does_not_have_is_refused(change, word):
    with pytest.raises(ExportError, match=word):
        require_twin(replace(CONFIG, **change))


def test_the_command_writes_the_folder_once(capsys, pretrained, tmp_path):
    save_pretrained(tmp_path / "run", pretrained)
    arguments = ["export", "--model", str(tmp_path / "run"), "--to", "hf", "--out", str(tmp_path / "hf")]
    assert cli.main(arguments) == 0
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == ["ModernBertForMaskedLM"]
    assert cli.main(arguments) == 2
    assert "already holds something" in capsys.readouterr().err


def test_without_transformers_it_is_one_sentence(capsys, pretrained, tmp_path, monkeypatch):
    save_pretrained(tmp_path / "run", pretrained)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert cli.main(["export", "--model", str(tmp_path / "run"), "--to", "hf", "--out", str(tmp_path / "hf")]) == 2
    assert "transformers is not installed" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()
