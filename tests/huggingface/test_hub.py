"""Models and texts by name: from saved folders, from parquet, and what is said where the network is missing."""

import sys
import time
import types
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from llm_lab.huggingface import (
    ExportError,
    HubError,
    export,
    from_transformers_tokenizer,
    hub,
    load_from_transformers,
    load_masked_model,
    stream_texts,
    to_transformers_tokenizer,
)
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import fill
from llm_lab.tasks.pretrained import Pretrained, load_pretrained, save_pretrained
from tests.huggingface.test_twins import BERT

TEXT = "Each [MASK] has a colour."
NOWHERE = "nobody/no-such-model"


@pytest.fixture
def saved(tmp_path, tiny_tokenizer):
    """A folder as anyone's transformers would save it: a random BERT and its tokenizer."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=tiny_tokenizer.vocabulary_size, max_position_embeddings=32, **size)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    to_transformers_tokenizer(tiny_tokenizer, 32).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def no_network(monkeypatch):
    """Every request fails, and takes a while to do so."""

    def request(*arguments, **options):
        time.sleep(0.2)
        raise OSError("no route")

    monkeypatch.setattr("socket.socket.connect", request)
    monkeypatch.setattr("socket.getaddrinfo", request)


def test_a_saved_folder_gives_the_model_that_was_saved(saved):
    model, tokenizer = load_masked_model(saved)
    again = AutoModelForMaskedLM.from_pretrained(saved, local_files_only=True)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    assert not model.training and type(model) is BertForMaskedLM
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_their_folder_fills_blanks_here(saved, tmp_path):
    ours = load_from_transformers(saved)
    model, tokenizer = load_masked_model(str(saved))
    ids = tokenizer(TEXT)["input_ids"]
    assert ours.tokenizer.encode(TEXT) == ids
    place = ids.index(tokenizer.mask_token_id)
    logits = model(torch.tensor([ids])).logits[0, place]
    logits[list(ours.tokenizer.special_ids)] = -torch.inf
    best = logits.softmax(dim=-1).max(dim=-1)
    guess = fill(ours.model, ours.tokenizer, TEXT)[0][0]
    assert guess.word == tokenizer.convert_ids_to_tokens(best.indices.item())
    assert guess.probability == pytest.approx(best.values.item(), rel=1e-5)
    save_pretrained(tmp_path / "ours", ours)
    kept = load_pretrained(tmp_path / "ours")
    assert fill(kept.model, kept.tokenizer, TEXT)[0][0].word == guess.word


def test_our_export_comes_back_through_its_folder(tmp_path, tiny_tokenizer):
    torch.manual_seed(0)
    model = MaskedLanguageModel(replace(BERT, vocabulary_size=tiny_tokenizer.vocabulary_size)).eval()
    export(Pretrained(model, tiny_tokenizer), tmp_path / "hf")
    again = load_from_transformers(tmp_path / "hf")
    assert again.tokenizer.sha == tiny_tokenizer.sha and again.model.config == model.config
    for one, other in zip(again.model.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_padded_call_leaves_nothing_on_in_our_tokenizer(saved):
    _, theirs = load_masked_model(saved)
    before = from_transformers_tokenizer(theirs).encode_many([TEXT, "Each array."])
    theirs([TEXT, "Each array."], padding="max_length", truncation=True, max_length=6)
    assert theirs.backend_tokenizer.truncation is not None
    assert from_transformers_tokenizer(theirs).encode_many([TEXT, "Each array."]) == before
    assert 6 < len(before[1]) < len(before[0])


def test_a_tokenizer_without_our_special_tokens_is_refused():
    with pytest.raises(ExportError, match="no fast tokenizer"):
        from_transformers_tokenizer(object())
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "[MASK]": 1}, unk_token="a")))
    with pytest.raises(ExportError, match=r"can't be ours: .*lacks \[PAD\]") as caught:
        from_transformers_tokenizer(bare)
    assert "\n" not in str(caught.value)


def test_weights_without_a_head_are_refused(saved):
    encoder = BertModel(BertForMaskedLM.from_pretrained(saved).config)
    encoder.save_pretrained(saved)
    with pytest.raises(HubError, match=r"lacks weights \(cls\..*that was trained to guess hidden words"):
        load_masked_model(saved)


def test_a_folder_of_another_kind_of_model_is_one_sentence(tmp_path, tiny_tokenizer):
    GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    with pytest.raises(HubError, match="can't be read as a masked language model") as caught:
        load_masked_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_code_of_a_repository_is_never_run(saved):
    (saved / "model.py").write_text("raise SystemExit('this ran')\n")
    config = (saved / "config.json").read_text()
    named = config.replace('"model_type": "bert"', '"model_type": "own", "auto_map": {"AutoConfig": "model.C"}')
    assert named != config
    (saved / "config.json").write_text(named)
    with pytest.raises(HubError, match="can't be read") as caught:
        load_masked_model(saved)
    assert "this ran" not in str(caught.value)


# -- without a network ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_network")
def test_offline_it_is_one_sentence_within_seconds():
    begin = time.monotonic()
    with pytest.raises(HubError, match="no-such-model is not on this machine, and the hub can't be reached") as caught:
        load_masked_model(NOWHERE)
    assert time.monotonic() - begin < 3 * hub.SECONDS and "\n" not in str(caught.value)


def test_a_name_that_is_looked_up_for_ever_does_not_hang(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: time.sleep(30))
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    begin = time.monotonic()
    assert not hub._hub_answers() and time.monotonic() - begin < 2


def test_the_offline_switch_is_obeyed_and_named(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_hub_answers", lambda: pytest.fail("it asked"))
    with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids"):
        load_masked_model(NOWHERE)


def test_without_transformers_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ExportError, match="transformers is not installed"):
        load_masked_model(NOWHERE)


def test_without_datasets_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(HubError, match="pip install datasets"):
        next(stream_texts("owner/name"))


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A stand-in for `datasets` that notes how it was called and streams three rows."""
    called = []

    def load_dataset(*arguments, **options):
        called.append((arguments, options))
        return iter([{"text": " One\ntext. "}, {"text": ""}, {"text": None}, {"text": "Another."}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return called


def test_texts_are_streamed_and_empty_ones_skipped(stand_in, tmp_path):
    assert list(stream_texts(tmp_path, "raw", split="test")) == ["One text.", "Another."]
    assert stand_in == [((str(tmp_path), "raw"), {"split": "test", "streaming": True})]
    with pytest.raises(HubError, match=r"no column 'words' \(it has text\)"):
        list(stream_texts(tmp_path, column="words"))


@pytest.mark.usefixtures("no_network")
def test_texts_of_the_hub_need_the_network(stand_in):
    with pytest.raises(HubError, match="wikitext is not on this machine"):
        next(stream_texts("Salesforce/wikitext", "wikitext-103-raw-v1"))
    assert not stand_in


@pytest.fixture
def parquet_folder(tmp_path, monkeypatch):
    """A data set as the hub stores it."""
    pytest.importorskip("datasets", reason="needs the extra hub")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra hub")
    table = pytest.importorskip("pyarrow").table
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "set"
    folder.mkdir()
    parquet.write_table(table({"text": ["First.", "", None, " Second\nline. "]}), folder / "train.parquet")
    return folder


def test_local_parquet_is_streamed(parquet_folder):
    assert list(stream_texts(parquet_folder)) == ["First.", "Second line."]
    with pytest.raises(HubError, match="no column 'words'"):
        list(stream_texts(parquet_folder, column="words"))
    with pytest.raises(HubError, match="can't be streamed"):
        list(stream_texts(parquet_folder, split="nothing"))
