"""Tags: which subword carries one, long sentences, and span F1 against a second way of counting."""

import itertools
import re

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from llm_lab.config import ModelConfig
from llm_lab.model.heads import Classifier
from llm_lab.tasks.labelled import Example
from llm_lab.tasks.rows import padded_batch
from llm_lab.tasks.tagging import encode, loss_sum, predict, score, span_f1, spans
from llm_lab.text.masking import IGNORED

LABELS = ("B-X", "I-X", "O")
SENTENCES = [
    Example(("The", "lampgardener", "paints", "."), ("O", "B-X", "I-X", "O")),
    Example(("One", "child"), ("B-X", "O")),
    Example(("A", "young", "pilot", "carries", "a", "boat") * 4, ("O", "B-X", "I-X", "O", "O", "O") * 4),
]


@pytest.fixture
def model(tiny_tokenizer):
    torch.manual_seed(1)
    built = Classifier(ModelConfig(tiny_tokenizer.vocabulary_size, 16, 2, 2, 24, max_length=64, dropout=0.3), 3, "each")
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


# -- encode -----------------------------------------------------------------------------------------------------------


def test_the_first_subword_carries_the_tag(tiny_tokenizer):
    (row,) = encode(SENTENCES[:1], tiny_tokenizer, 64, LABELS)
    assert row.ids == tiny_tokenizer.encode("The lampgardener paints .")
    pieces = tiny_tokenizer.tokens("The lampgardener paints .")
    starts = [i for i, piece in enumerate(pieces) if not piece.startswith("##") and not piece.startswith("[")]
    assert len(pieces) > 6 and row.positions == starts
    assert row.targets == [2, 0, 1, 2] and not row.cut
    (bare,) = encode([Example(("One", "child"))], tiny_tokenizer, 64)
    assert bare.targets == [IGNORED, IGNORED] and len(bare.positions) == 2


def test_a_word_that_the_tokenizer_drops_has_its_place(tiny_tokenizer):
    (row,) = encode([Example(("\u3000", "One", "\u3000\u3000"), ("B-X", "O", "I-X"))], tiny_tokenizer, 64, LABELS)
    assert row.targets == [0, 2, 1] and tiny_tokenizer.encode("\u3000") == tiny_tokenizer.encode("")
    one = tiny_tokenizer.encode("One")[1]
    assert [row.ids[p] for p in row.positions] == [tiny_tokenizer.unknown_id, one, tiny_tokenizer.unknown_id]


@pytest.mark.parametrize("length", [8, 9, 11, 16, 25])
def test_a_long_sentence_goes_on_and_no_word_is_lost(tiny_tokenizer, length):
    rows = encode(SENTENCES, tiny_tokenizer, length, LABELS)
    assert all(len(row.ids) <= length for row in rows)
    assert all(row.ids[0] == tiny_tokenizer.cls_id and row.ids[-1] == tiny_tokenizer.sep_id for row in rows)
    for i, example in enumerate(SENTENCES):
        mine = [row for row in rows if row.example == i]
        assert [LABELS[t] for row in mine for t in row.targets] == list(example.answers)
        firsts = [row.ids[p] for row in mine for p in row.positions]
        assert firsts == [tiny_tokenizer.encode(word)[1] for word in example.content]
        assert len({row.cut for row in mine}) == 1 and mine[0].cut == (len(mine) > 1)
    assert any(row.cut for row in rows)


def test_a_word_longer_than_a_row_is_cut_alone(tiny_tokenizer):
    rows = encode([Example(("One", "q" * 50, "child"), ("O", "B-X", "O"))], tiny_tokenizer, 8, LABELS)
    assert [target for row in rows for target in row.targets] == [2, 0, 2]
    assert max(len(row.ids) for row in rows) <= 8


# -- loss, predict, score ---------------------------------------------------------------------------------------------


def by_hand(model, tokenizer):
    """log p of each tag at each word, sentence by sentence, each read alone and whole."""
    model.eval()
    found = []
    for example in SENTENCES:
        pieces = [tokenizer.encode(word)[1:-1] for word in example.content]
        places = [1 + sum(map(len, pieces[:i])) for i in range(len(pieces))]
        ids = [tokenizer.cls_id, *itertools.chain(*pieces), tokenizer.sep_id]
        x = model.encoder(torch.tensor([ids]))[0, places]
        found.append((x @ model.output.weight.T + model.output.bias).double().log_softmax(dim=-1))
    return found


def test_loss_guesses_and_score(model, tiny_tokenizer):
    rows = encode(SENTENCES, tiny_tokenizer, 64, LABELS)
    expected = by_hand(model, tiny_tokenizer)
    wanted = [[LABELS.index(tag) for tag in example.answers] for example in SENTENCES]
    nats = -sum(p[i, t].item() for p, tags in zip(expected, wanted, strict=True) for i, t in enumerate(tags))
    assert loss_sum(model, padded_batch(rows, 0)).item() == pytest.approx(nats, rel=1e-5)

    found = predict(model.train(), rows, LABELS, 0)
    guessed = [[LABELS[i] for i in p.argmax(dim=-1)] for p in expected]
    assert [[tag.tag for tag in sentence] for sentence in found] == guessed
    best = torch.cat(expected).exp().max(dim=-1).values.tolist()
    assert [tag.probability for sentence in found for tag in sentence] == pytest.approx(best, rel=1e-5)

    words = sum(map(len, wanted))
    right = sum(g == t for a, b in zip(guessed, SENTENCES, strict=True) for g, t in zip(a, b.answers, strict=True))
    measured = score(model.train(), rows, LABELS, 0)
    assert measured["held_out_loss"] == pytest.approx(nats / words, rel=1e-5)
    assert measured["held_out_accuracy"] == pytest.approx(right / words)
    assert measured["held_out_span_f1"] == pytest.approx(counted_f1(guessed, [e.answers for e in SENTENCES]))


def test_rows_of_one_sentence_are_joined(model, tiny_tokenizer):
    rows = encode(SENTENCES, tiny_tokenizer, 9, LABELS)
    found = predict(model, rows, LABELS, 0)
    assert [len(sentence) for sentence in found] == [len(example.content) for example in SENTENCES]
    guessed = [[tag.tag for tag in sentence] for sentence in found]
    measured = score(model, rows, LABELS, 0)
    assert measured["held_out_span_f1"] == pytest.approx(counted_f1(guessed, [e.answers for e in SENTENCES]))


def test_other_tags_have_no_spans(model, tiny_tokenizer):
    rows = encode([Example(("One", "child"), ("NOUN", "VERB"))], tiny_tokenizer, 64, ("DET", "NOUN", "VERB"))
    assert set(score(model, rows, ("DET", "NOUN", "VERB"), 0)) == {"held_out_loss", "held_out_accuracy"}


# -- spans ------------------------------------------------------------------------------------------------------------


def spans_by_pattern(tags):
    """A second way: tags as a text, spans as what a pattern finds in it."""
    text = "".join(f"<{tag}>" for tag in tags)
    starts = {m.start(): i for i, m in enumerate(re.finditer("<", text))} | {len(text): len(tags)}
    return {(starts[m.start()], starts[m.end()], m[1]) for m in re.finditer(r"<B-([^<>]*)>(?:<I-\1>)*", text)}


def counted_f1(guessed, wanted):
    """The harmonic mean of precision and recall."""
    ours = [spans_by_pattern(tags) for tags in guessed]
    theirs = [spans_by_pattern(tags) for tags in wanted]
    hits = sum(len(a & b) for a, b in zip(ours, theirs, strict=True))
    if not sum(map(len, ours)) + sum(map(len, theirs)):
        return 1.0
    if hits == 0:
        return 0.0
    precision, recall = hits / sum(map(len, ours)), hits / sum(map(len, theirs))
    return 2 * precision * recall / (precision + recall)


TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y")


def test_all_sequences_of_five_tags_have_the_spans_of_the_pattern():
    for tags in itertools.product(TAGS, repeat=5):
        assert spans(tags) == spans_by_pattern(tags), tags


@given(st.lists(st.tuples(st.lists(st.sampled_from(TAGS), min_size=4, max_size=4), st.permutations(TAGS[:4]))))
def test_f1_is_the_harmonic_mean(pairs):
    guessed, wanted = [a for a, _ in pairs], [b for _, b in pairs]
    assert span_f1(guessed, wanted) == pytest.approx(counted_f1(guessed, wanted))


def test_known_values():
    assert span_f1([["B-X", "I-X", "O"]], [["B-X", "I-X", "O"]]) == 1.0
    assert span_f1([["B-X", "O", "O"]], [["B-X", "I-X", "O"]]) == 0.0  # half a span is none
    assert span_f1([["B-X", "O", "B-Y"]], [["B-X", "O", "B-X"]]) == 0.5
    assert span_f1([["O", "I-X", "O"]], [["O", "B-X", "O"]]) == 0.0  # strict: I alone opens nothing
    assert span_f1([["O"]], [["O"]]) == 1.0
