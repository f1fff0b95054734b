"""Model folders: a round trip, half the size in fp16, and every kind of damage named in a sentence."""

import errno
import json
import os
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from llm_lab import home
from llm_lab.config import BERT_SHAPE, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.pretrained import Pretrained, PretrainedError, load_pretrained, save_pretrained
from llm_lab.text.tokenizer import train_tokenizer
from tests import samples


@pytest.fixture
def pretrained(tiny_tokenizer):
    torch.manual_seed(0)
    config = ModelConfig(tiny_tokenizer.vocabulary_size, 16, 2, 2, 24, max_length=32, positions="learned", dropout=0.1)
    return Pretrained(MaskedLanguageModel(config), tiny_tokenizer, {"corpus": {"sha": "abc"}, "steps": 3})


@pytest.fixture
def folder(pretrained, tmp_path):
    save_pretrained(tmp_path / "model", pretrained)
    return tmp_path / "model"


def test_what_was_saved_comes_back(pretrained, folder):
    again = load_pretrained(folder)
    assert again.record == pretrained.record and again.model.config == pretrained.model.config
    assert again.tokenizer.to_json() == pretrained.tokenizer.to_json()
    for (name, a), (other, b) in zip(
        again.model.state_dict().items(), pretrained.model.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(a, b)
    assert not again.model.training
    ids = torch.randint(5, 300, (2, 9))
    assert torch.equal(again.model(ids), pretrained.model.eval()(ids))


@pytest.mark.parametrize(
    "choices",
    [
        *({"architecture": name} for name in ("transformer", "rnn", "lstm", "bilstm")),
        {"architecture": "window", "window": 3},
        {"positions": "alibi", "norm_kind": "rms"},
        BERT_SHAPE,
    ],
    ids=str,
)
def test_every_architecture_comes_back(pretrained, tmp_path, choices):
    model = MaskedLanguageModel(replace(pretrained.model.config, **choices)).eval()
    save_pretrained(tmp_path, Pretrained(model, pretrained.tokenizer))
    again = load_pretrained(tmp_path).model
    assert again.config == model.config
    ids, mask = torch.randint(5, 300, (2, 9)), torch.arange(9) < torch.tensor([[9], [5]])
    assert torch.equal(again(ids, mask), model(ids, mask))


def test_a_config_from_before_there_were_architectures_is_a_transformer(pretrained, folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    newer = "architecture window convolution norm_place norm_kind norm_epsilon feed_forward biases"
    for name in newer.split():
        del config["model"][name]
    path.write_text(json.dumps(config))
    assert load_pretrained(folder).model.config == pretrained.model.config


def test_weights_of_another_architecture_are_named(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model"]["architecture"] = "bilstm"
    path.write_text(json.dumps(config))
    with pytest.raises(PretrainedError, match="belong to a model of another size or architecture than config.json"):
        load_pretrained(folder)


def test_the_folder_of_a_run_serves_as_well(pretrained, folder):
    assert torch.equal(load_pretrained(folder.parent).model.head.bias, pretrained.model.head.bias)
    assert load_pretrained(str(folder)).record == pretrained.record


def test_the_three_files_are_of_common_formats(pretrained, folder):
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        name: tuple(p.shape) for name, p in pretrained.model.named_parameters()
    }
    assert json.loads((folder / "config.json").read_text())["model"]["width"] == 16


def test_fp16_halves_the_file_and_keeps_three_digits(pretrained, folder, tmp_path):
    with torch.no_grad():
        pretrained.model.head.bias.normal_()
    save_pretrained(tmp_path / "half", pretrained, torch.float16)
    small, large = ((f / "model.safetensors").stat().st_size for f in (tmp_path / "half", folder))
    assert small < 0.55 * large
    for a, b in zip(load_pretrained(tmp_path / "half").model.parameters(), pretrained.model.parameters(), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b.half().float())


def test_a_changed_byte_of_the_weights_is_found_wherever_it_is(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for place in (0, 7, 20, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(PretrainedError, match="model.safetensors is damaged .*copy the model again") as caught:
            load_pretrained(folder)
        assert "\n" not in str(caught.value)
    for data in (whole[:-1], whole[: len(whole) // 2], b"", b"not weights"):
        path.write_bytes(data)
        with pytest.raises(PretrainedError, match="is damaged"):
            load_pretrained(folder)


def test_swapped_numbers_are_found(folder):
    """Two weights that change places leave the same bytes in another order."""
    path = folder / "model.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = safetensors.torch.load_file(path)
    names = ["encoder.blocks.0.attention.query.weight", "encoder.blocks.0.attention.key.weight"]
    state[names[0]], state[names[1]] = state[names[1]], state[names[0]]
    safetensors.torch.save_file(state, path, metadata=metadata)
    with pytest.raises(PretrainedError, match="its checksum differs"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no trained model in .*{name} is missing.*folder of a run"):
        load_pretrained(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no trained model in .*nowhere"):
        load_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"model": {}}', b'{"model": {"width": 7}, "record": {}}']
)
def test_a_damaged_config_is_named(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(PretrainedError, match="config.json is damaged .*copy the model again"):
        load_pretrained(folder)


def test_a_config_of_another_size_is_named(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model"]["feed_forward_width"] = 25
    path.write_text(json.dumps(config))
    with pytest.raises(PretrainedError, match="belong to a model of another size or architecture than config"):
        load_pretrained(folder)


def test_a_tokenizer_of_another_vocabulary_is_named(folder):
    train_tokenizer(samples.sentences(200), 200).save(folder / "tokenizer.json")
    with pytest.raises(PretrainedError, match="has 200 entries, the model 300: take the tokenizer that the model was"):
        load_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match="can't be read as a tokenizer"):
        load_pretrained(folder)


def test_a_full_disk_leaves_a_model_that_loads(pretrained, folder, monkeypatch):
    """The weights are written last, and each file whole or not at all."""
    before = load_pretrained(folder).model.state_dict()
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(home.os, "fsync", full)
    with torch.no_grad():
        pretrained.model.head.bias += 1
    with pytest.raises(OSError):
        save_pretrained(folder, pretrained)
    after = load_pretrained(folder).model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_tokenizer_that_numbers_its_tokens_otherwise_is_found(pretrained, tmp_path):
    """Of the same size, so that only the record of the vocabulary can tell."""
    record = {"corpus": {"tokenizer": pretrained.tokenizer.sha}}
    save_pretrained(tmp_path, Pretrained(pretrained.model, pretrained.tokenizer, record))
    assert load_pretrained(tmp_path).record == record
    path = tmp_path / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    ids = stored["model"]["vocab"]
    first, second = [token for token in ids if not token.startswith("[")][:2]
    ids[first], ids[second] = ids[second], ids[first]
    path.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(PretrainedError, match="not the one that the model was trained with"):
        load_pretrained(tmp_path)
