"""Every measure of a model: closed forms, a model whose answers are known, and what a reader is shown of it.

(Named after the function: the doctor has a test_evaluation.py of its own.)
"""

import copy
import json
import math
from dataclasses import replace
from functools import cached_property

import pytest
import torch

from llm_lab import metrics
from llm_lab.config import MaskingConfig, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks import evaluation as module
from llm_lab.tasks.evaluation import english_preferences, evaluate, table
from llm_lab.tasks.held_out import answers, documents_of, held_out_batches
from llm_lab.tasks.known_language import compare
from llm_lab.tasks.masked_language_model import pseudo_perplexity, score
from llm_lab.tasks.minimal_pairs import Pair, read_pairs, spelled
from llm_lab.tasks.pretrained import Pretrained
from llm_lab.text.baselines import ladder
from llm_lab.text.dataset import prepare
from llm_lab.text.grammar import easy_language, hard_language
from llm_lab.text.masking import IGNORED
from llm_lab.text.sentences import HELD_OUT, SentenceDataset, framed
from llm_lab.text.tokenizer import train_tokenizer
from tests import samples


def random_model(size, spread=0.3):
    torch.manual_seed(0)
    model = MaskedLanguageModel(ModelConfig(size, 16, 1, 2, 24, max_length=64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def pretrained(tiny_dataset):
    """Random weights, said to be trained on this text."""
    record = {"corpus": {"sha": tiny_dataset.corpus.sha}}
    return Pretrained(random_model(tiny_dataset.tokenizer.vocabulary_size), tiny_dataset.tokenizer, record)


@pytest.fixture(scope="module")
def measured(pretrained, tiny_dataset):
    return evaluate(pretrained, tiny_dataset, documents=2)


class FewSentences(SentenceDataset):
    """A known language with fewer held-out sentences."""

    @cached_property
    def held_out(self):
        """The sentences on which a model is measured."""
        return framed(self.language.sample(300, HELD_OUT), self.tokenizer)


@pytest.fixture(scope="module")
def known():
    """A random model on the hard language, and its measures."""
    dataset = FewSentences(hard_language())
    model = Pretrained(random_model(dataset.tokenizer.vocabulary_size), dataset.tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PROBES", 20)
        return model, dataset, evaluate(model, dataset, documents=2)


# -- on real text -----------------------------------------------------------------------------------------------------


def test_measures_are_their_definitions(pretrained, measured, tiny_dataset):
    batches = held_out_batches(tiny_dataset)
    assert measured["targets"] == sum(int((b.targets != IGNORED).sum()) for b in batches)
    expected = score(pretrained.model, batches)
    assert {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    for step in ladder(tiny_dataset, batches):
        name = step.name.replace(" ", "_")
        assert measured[f"{name}_loss"] == pytest.approx(step.loss)
        assert measured[f"{name}_accuracy"] == pytest.approx(step.accuracy)
    texts = [d.text for d in tiny_dataset.corpus.split("held_out")]
    tokens = sum(len(tiny_dataset.tokenizer.encode(text)) - 2 for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert measured["bits_per_byte"] == pytest.approx(measured["held_out_loss"] / math.log(2) * tokens / size)
    expected = pseudo_perplexity(pretrained.model, tiny_dataset.tokenizer, texts[:2])
    assert measured["pseudo_perplexity"] == pytest.approx(expected)


def test_intervals_are_over_documents(pretrained, measured, tiny_dataset):
    batches = held_out_batches(tiny_dataset)
    found, document = answers(pretrained.model, batches), documents_of(tiny_dataset, batches)
    assert measured["documents"] == len(set(document.tolist())) > 3
    for name, values in (("held_out_loss", found.nats), ("held_out_accuracy", found.right.double())):
        assert measured[f"{name}_interval"] == list(metrics.bootstrap(values, document)[1:])
        assert measured[f"{name}_interval"][0] <= measured[name] <= measured[f"{name}_interval"][1]


def test_the_split_by_what_is_shown_adds_up(pretrained, measured, tiny_dataset):
    """Weighted by their targets the parts make the loss on the whole 80/10/10 exam, which has the same targets."""
    parts = measured["loss_by_what_is_shown"]
    assert list(parts) == ["[MASK]", "random word", "the word itself"]
    count = sum(part["targets"] for part in parts.values())
    assert count == measured["targets"]
    whole = score(pretrained.model, held_out_batches(tiny_dataset, masking=MaskingConfig(0.15, "80/10/10")))
    for name, of_whole in (("loss", "held_out_loss"), ("accuracy", "held_out_accuracy")):
        mean = sum(part[name] * part["targets"] for part in parts.values()) / count
        assert mean == pytest.approx(whole[of_whole], rel=1e-6)


def test_calibration_is_that_of_the_answers(pretrained, measured, tiny_dataset):
    found = answers(pretrained.model, held_out_batches(tiny_dataset))
    assert sum(b["targets"] for b in measured["calibration"]) == measured["targets"]
    total = sum(b["targets"] * abs(b["confidence"] - b["accuracy"]) for b in measured["calibration"])
    assert measured["calibration_error"] == pytest.approx(total / measured["targets"])
    assert measured["overconfidence"] == pytest.approx((found.nats - found.expected).mean().item())
    assert measured["overconfidence"] > 0.5  # random weights are sure of nothing that is true


def test_a_model_that_knows_nothing_measures_as_the_uniform_one(pretrained, tiny_dataset):
    """All weights zero: every word has probability 1/V, and the model knows that it knows nothing."""
    nothing = replace(pretrained, model=copy.deepcopy(pretrained.model))
    with torch.no_grad():
        for parameter in nothing.model.parameters():
            parameter.zero_()
    found = evaluate(nothing, tiny_dataset, documents=1)
    size = tiny_dataset.tokenizer.vocabulary_size
    assert found["held_out_loss"] == pytest.approx(math.log(size), abs=1e-5)
    assert found["held_out_loss"] == pytest.approx(found["uniform_loss"], abs=1e-5)
    assert found["pseudo_perplexity"] == pytest.approx(size, rel=1e-4)
    assert found["overconfidence"] == pytest.approx(0, abs=1e-5)
    losses = {part["loss"] for part in found["loss_by_what_is_shown"].values()}
    assert all(loss == pytest.approx(math.log(size), abs=1e-5) for loss in losses)
    if "minimal_pairs" in found:  # no pair is preferred either way, up to rounding
        assert all(abs(v["by_sentence"] - 0.5) <= 0.5 for v in found["minimal_pairs"].values())


def test_a_leak_is_measured(pretrained, measured, tiny_dataset):
    assert measured["leaked_documents"] == 0 <= measured["leaked_8_grams"] < 0.1
    held_out = tiny_dataset.corpus.split("held_out")
    planted = tuple(replace(document, part="train") for document in held_out[:3])
    corpus = replace(tiny_dataset.corpus, documents=tiny_dataset.corpus.documents + planted)
    found = evaluate(pretrained, replace(tiny_dataset, corpus=corpus), documents=1)
    assert found["leaked_documents"] == pytest.approx(3 / len(held_out))


def test_another_text_than_that_of_the_training_is_said(pretrained, measured, tiny_dataset):
    assert measured["same_text"] is True and "another text" not in "\n".join(table(measured))
    other = replace(pretrained, record={"corpus": {"sha": "other"}})
    found = evaluate(other, tiny_dataset, documents=1)
    assert found["same_text"] is False
    assert table(found)[-1].startswith("The model was trained on another text, or another version of it")
    assert evaluate(replace(pretrained, record={}), tiny_dataset, documents=1)["same_text"] is False


def test_another_vocabulary_is_refused(pretrained, tiny_corpus):
    other = prepare(tiny_corpus, 300, 16, train_tokenizer(samples.sentences(300, 7), 250))
    with pytest.raises(ValueError, match="trained with another vocabulary than this corpus has"):
        evaluate(pretrained, other)


def test_preferences_of_english_pairs_are_counted(pretrained):
    pairs = [
        Pair("word", "The old lamp is near the river.", "The old lamp is near the boat."),
        Pair("word", "The old boat is near the river.", "The old lamp is near the river."),
        Pair("word", "The red boat is near the river.", "The green boat is near the river."),
        Pair("order", "A red boat.", "Red a boat."),
    ]
    pairs = spelled(pairs, pretrained.tokenizer)
    assert len(pairs) == 4
    found = english_preferences(pretrained, pairs)
    swapped = english_preferences(pretrained, [Pair(p.phenomenon, p.wrong, p.right) for p in pairs])
    assert [found[kind]["pairs"] for kind in ("word", "order", "all")] == [3, 0, 3]
    assert "at_place" not in found["order"] and found["word"]["at_place"] == found["all"]["at_place"]
    for kind in ("word", "all"):
        assert found[kind]["at_place"] + swapped[kind]["at_place"] == pytest.approx(1)
        share, low, high = metrics.proportion(3 * found[kind]["at_place"], 3)
        assert found[kind]["interval"] == [low, high]
    for kind in found:
        assert found[kind]["by_sentence"] + swapped[kind]["by_sentence"] == pytest.approx(1)
    parts = 3 * found["word"]["by_sentence"] + found["order"]["by_sentence"]
    assert found["all"]["by_sentence"] == pytest.approx(parts / 4)


# -- on a known language ----------------------------------------------------------------------------------------------


def test_on_a_known_language_floor_excess_and_pairs_are_those_of_the_oracle(known):
    model, dataset, found = known
    compared = compare(model.model, dataset)
    assert found["floor"] == pytest.approx(compared.floor.mean)
    assert found["excess"] == pytest.approx(compared.excess.mean)
    assert found["excess_standard_error"] == pytest.approx(compared.excess.standard_error)
    assert found["excess_by_kind"] == pytest.approx({k: e.mean for k, e in compared.excess_by_kind.items()})
    assert "leaked_documents" not in found and 200 < found["documents"] < 300  # those with a target
    pairs = found["minimal_pairs"]
    assert set(pairs) < set(dataset.language.kinds) and len(pairs) == 8
    for kind, value in pairs.items():
        assert 0.9 < value["oracle"] <= 1, kind  # a fish may be one or many: nobody can always know
        assert value["interval"][0] < value["at_place"] < value["interval"][1]
        assert value["interval"][0] < 0.65 and value["pairs"] == 20 or kind == "determiner"  # random weights guess


def test_on_the_easy_language_no_word_is_forbidden():
    dataset = FewSentences(easy_language())
    model = Pretrained(random_model(dataset.tokenizer.vocabulary_size), dataset.tokenizer)
    found = evaluate(model, dataset, documents=1)
    assert "minimal_pairs" not in found and found["excess"] > 0
    assert not any("minimal pairs" in line for line in table(found))


# -- for readers ------------------------------------------------------------------------------------------------------


def test_the_table_shows_every_number(measured, known):
    for found in (measured, known[2]):
        lines = table(found)
        assert max(map(len, lines)) <= 120
        groups = {line.split(" (")[0].split(":")[0]: i for i, line in enumerate(lines) if i and not lines[i - 1]}
        for name, value in found.items():
            if name in ("calibration", "same_text") or name.endswith("_interval"):
                continue
            label = name.replace("_", " ")
            if not isinstance(value, dict):
                (line,) = [line for line in lines if line[:30].strip() == label]
                assert float(line[30:].split()[0].replace(",", "")) == pytest.approx(value, abs=6e-5)
                continue
            below = lines[groups[label] + 1 :]
            for line, (part, inside) in zip(below, value.items(), strict=False):
                number = inside if isinstance(inside, float) else inside.get("loss", inside.get("at_place"))
                assert line[:30].strip() == part
                assert line[30:].split()[0] == ("-" if number is None else f"{number:.4f}")
        low, high = found["held_out_loss_interval"]
        (line,) = [line for line in lines if line.startswith("held out loss ")]
        assert f"  {low:.3f} to {high:.3f}; nats" in line


def test_the_measures_are_json(measured, known):
    for found in (measured, known[2]):
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_english_pairs_are_asked_where_they_can_be_spelled(tiny_corpus):
    """A vocabulary with every letter spells them all; one of another alphabet none."""
    english = train_tokenizer([pair.right + pair.wrong for pair in read_pairs()] + samples.sentences(200), 400)
    dataset = prepare(tiny_corpus, 400, 16, english)
    model = Pretrained(random_model(english.vocabulary_size), english)
    found = evaluate(model, dataset, documents=1)["minimal_pairs"]
    assert set(found) == {pair.phenomenon for pair in read_pairs()} | {"all"}
    russian = train_tokenizer(["лампа у реки и лодка " * 3] * 50 + ["один два три"] * 9, 60)
    assert spelled(read_pairs(), russian) == []
