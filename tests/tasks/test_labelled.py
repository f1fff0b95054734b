"""Labelled files: what is read, how it is split, and a sentence with file and line for all that can't be used."""

import csv
import json
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from llm_lab.tasks.labelled import (
    Example,
    LabelledError,
    balanced,
    labels_of,
    one_input,
    read_examples,
    read_inputs,
    read_parts,
    split_examples,
    words_of,
)


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def written(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def refused(path, *arguments, read=read_examples):
    """The sentence with which a file is refused: one line that names the file."""
    with pytest.raises(LabelledError) as caught:
        read(path, *arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence and str(path) in sentence and sentence.endswith(".")
    return sentence.replace(str(path), "FILE")


# -- what is read -----------------------------------------------------------------------------------------------------


def test_a_csv_of_texts(write):
    path = write(
        "a.csv",
        'stars,text,label\n5,"Fine, really.",good\n\n1, Broken. , bad \n2,"two\nlines",bad\n3,"say ""x""",good\n',
    )
    task, rows = read_examples(path)
    assert task == "classification"
    assert rows == [
        Example("Fine, really.", ("good",), 2),
        Example("Broken.", ("bad",), 4),
        Example("two\nlines", ("bad",), 5),
        Example('say "x"', ("good",), 7),
    ]


def test_a_jsonl_of_texts(write):
    lines = ['{"text": "Fine.", "label": "good", "more": [1]}', "", '{"label": 0, "text": "a\\u2028b"}']
    for ends in ("\n", "\r\n"):
        task, rows = read_examples(write("a.jsonl", "\ufeff" + ends.join(lines)))
        assert task == "classification"
        assert rows == [Example("Fine.", ("good",), 1), Example("a\u2028b", ("0",), 3)]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.jsonl", '{"tokens": ["Ann", "ran", "."], "tags": ["B-X", "O", "O"]}'),
        ("a.csv", "tokens,tags\nAnn ran .,B-X O O\n"),
    ],
)
def test_tokens_with_tags(write, name, content):
    task, rows = read_examples(write(name, content))
    assert task == "tagging"
    assert [(row.content, row.answers) for row in rows] == [(("Ann", "ran", "."), ("B-X", "O", "O"))]


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1))
def test_any_text_comes_back_from_both_kinds(tmp_path_factory, pairs):
    pairs = [(a.replace("\0", ""), b.replace("\0", "")) for a, b in pairs]
    pairs = [(a, b) for a, b in pairs if a.strip() and b.strip() and "\ud800" not in a + b]
    folder = tmp_path_factory.mktemp("any")
    if not pairs:
        return
    with open(folder / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *pairs])
    (folder / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": a, "label": b}, ensure_ascii=False) for a, b in pairs), encoding="utf-8"
    )
    wanted = [(a.strip(), (b.strip(),)) for a, b in pairs]
    for name in ("a.csv", "a.jsonl"):
        assert [(row.content, row.answers) for row in read_examples(folder / name)[1]] == wanted


def test_inputs_need_no_answers(write):
    path = write("a.csv", "text,label\nOne.,\nTwo.,x\n")
    assert read_inputs(path, "classification") == [Example("One.", (), 2), Example("Two.", (), 3)]
    assert "line 2: the column 'tokens' is missing" in refused(path, "tagging", read=read_inputs)
    assert one_input("Call f(x).", "classification") == [Example("Call f(x).")]
    assert one_input("Call f(x).", "tagging") == [Example(("Call", "f", "(", "x", ")", "."))]
    with pytest.raises(LabelledError, match="the text is empty"):
        one_input(" \n", "tagging")


@given(st.text())
def test_words_lose_nothing_but_space(text):
    assert "".join(words_of(text)) == "".join(text.split())


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("a.csv", "text,stars\nx,1\n", "FILE, line 1: it has the columns text, stars: name the columns text and label"),
        ("a.csv", "text;label\nx;1\n", "FILE, line 1: it has the columns text;label: .* with commas between them"),
        ("a.jsonl", '\n{"text": "x"}\n', "FILE, line 2: it has the columns text: name the columns text and label"),
        ("a.jsonl", '{"text":"x","label":"y"}\n{"text":"x"}', "FILE, line 2: the column 'label' is missing"),
        ("a.csv", "text,label\nx,y\n ,y\n", "FILE, line 3: the text is empty"),
        ("a.csv", 'text,label\n"x\nz",y\nx,\n', "FILE, line 4: the label is empty"),
        ("a.jsonl", '{"text": " ", "label": "y"}', "FILE, line 1: the text is empty"),
        ("a.jsonl", '{"text": 3.5, "label": "y"}', "FILE, line 1: the text is 3.5, no text: put it in quotes"),
        ("a.jsonl", '{"text": "x", "label": ["y"]}', r'FILE, line 1: the label is \["y"\], no text'),
        ("a.jsonl", '{"text": "x", "label": null}', "FILE, line 1: the column 'label' is missing"),
        ("a.jsonl", '{"text":"x","label":"y"}\n' * 16 + '{"text": "x}', r"FILE, line 17: broken JSON \(Unterminated"),
        ("a.jsonl", '["x", "y"]', "FILE, line 1: the line is no JSON object"),
        (
            "a.csv",
            "text,label\nx,y\nfine, really,y\n",
            "FILE, line 3: 3 columns, but the first line names 2: put a text",
        ),
        ("a.csv", 'text,label\nx,y\n"open,y\n', "FILE, line 3: no CSV"),
        ("a.csv", 'text,label\n"a "b" c",y\n', "FILE, line 2: no CSV"),
        ("a.csv", "text,label\n" + "x" * 200_000 + ",y\n", "FILE, line 2: no CSV .*field larger"),
        (
            "a.csv",
            b"text,label\nx,y\n\xfcber,y\n",
            "FILE, line 3: byte 0xfc is not UTF-8: save the file again as UTF-8",
        ),
        ("a.csv", "text,label\nx,y".encode("utf-16"), "FILE, line 1: byte 0xff is not UTF-8"),
        ("a.csv", "text,label\nx,y".encode("utf-16-le"), "FILE, line 1: a zero byte is no text"),
        ("a.csv", "", "FILE has no rows: put one on each line after the first"),
        ("a.csv", "text,label\n\n", "FILE has no rows"),
        ("a.jsonl", "\n\n", r"FILE has no rows: put one on each line\."),
        ("a.xlsx", "x", "FILE is neither .csv nor .jsonl"),
        ("a.csv", "tokens,tags\na b,O O\na b c,O O\n", "FILE, line 3: there are 3 tokens and 2 tags: give one tag for"),
        ("a.jsonl", '{"tokens": ["a", 3], "tags": ["O", "O"]}', "FILE, line 1: the tokens are no list of words"),
        ("a.jsonl", '{"tokens": ["a", ""], "tags": ["O", "O"]}', "FILE, line 1: the tokens are no list of words"),
        ("a.jsonl", '{"tokens": [], "tags": []}', "FILE, line 1: there are no tokens"),
        ("a.csv", "tokens,tags\n,\n", "FILE, line 2: there are no tokens"),
    ],
)
def test_what_can_not_be_used_is_refused_with_its_line(write, name, content, sentence):
    import re

    said = refused(write(name, content))
    assert re.match(sentence, said), said


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "there is no file FILE" in refused(tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError):
        read_examples(tmp_path / "no.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "there is no file FILE" in refused(tmp_path / "folder.csv")


def test_one_label_alone_is_refused(write):
    path = write("a.csv", "text,label\nx,y\nz,y\n")
    said = refused(path, "0", 0, read=read_parts)
    assert said == "FILE, line 2 and all other rows to learn from have one label, 'y': give at least two."


def test_a_label_that_is_never_shown_is_refused(write):
    path = write("a.csv", "text,label\nx,y\nz,w\n")
    tested = write("b.jsonl", '{"text": "x", "label": "y"}\n{"text": "x", "label": "v"}')
    with pytest.raises(
        LabelledError, match=f"{tested}, line 2: the label 'v' is in no row to learn from: add rows .*{path}"
    ):
        read_parts(path, str(tested), 0)
    other = write("c.csv", "tokens,tags\nx,O\n")
    with pytest.raises(LabelledError, match=f"{other} is for tagging, {path} for classification"):
        read_parts(path, str(other), 0)
    for share in ("1", "-0.1", "nan", "1e9"):
        with pytest.raises(LabelledError, match="choose a share from 0 up to, not including, 1, or a file"):
            read_parts(path, share, 0)
    with pytest.raises(FileNotFoundError, match="there is no file nowhere.csv"):
        read_parts(path, "nowhere.csv", 0)


# -- splitting and drawing --------------------------------------------------------------------------------------------


def some(counts):
    """Examples with so many of each label, one after the other."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [Example(f"text {i}", (label,), i) for i, label in enumerate(labels)]


def test_each_label_is_split_by_itself():
    examples = some({"a": 100, "b": 20, "c": 1})
    kept, tested = split_examples(examples, 0.1, seed=3)
    assert Counter(e.answers[0] for e in tested) == {"a": 10, "b": 2}
    assert sorted(kept + tested, key=lambda e: e.line) == examples
    assert kept == sorted(kept, key=lambda e: e.line) and tested == sorted(tested, key=lambda e: e.line)
    assert (kept, tested) == split_examples(examples, 0.1, seed=3)
    assert tested != split_examples(examples, 0.1, seed=4)[1]
    assert split_examples(examples, 0.0, seed=3) == (examples, [])
    assert Counter(e.answers[0] for e in split_examples(some({"a": 2, "b": 3}), 0.9, 0)[0]) == {"a": 1, "b": 1}


def test_a_rare_tag_stays_where_it_can_be_learnt():
    rows = [Example(("x", "y"), ("O", "O"), i) for i in range(20)]
    rows[7] = Example(("x", "y"), ("B-RARE", "O"), 7)
    sizes = set()
    for seed in range(40):
        kept, tested = split_examples(rows, 0.5, seed)
        assert "B-RARE" in labels_of(kept) and len(kept) + len(tested) == 20
        sizes.add(len(tested))
    assert sizes == {9, 10}  # sometimes it had been drawn, and went back


def test_smaller_draws_are_inside_of_larger_ones_and_labels_are_equal():
    examples = some({"a": 50, "b": 20, "c": 9})
    small, large = balanced(examples, 5, seed=1), balanced(examples, 10, seed=1)
    assert Counter(e.answers[0] for e in small) == {"a": 5, "b": 5, "c": 5}
    assert Counter(e.answers[0] for e in large) == {"a": 10, "b": 10, "c": 9}
    assert set(small) < set(large) and len(set(large)) == 29
    assert balanced(examples, 5, seed=2) != small != sorted(small)


def test_every_example_is_drawn_equally_often():
    examples = some({"a": 6, "b": 2})
    drawn = Counter(e.line for seed in range(600) for e in balanced(examples, 2, seed))
    assert all(150 < drawn[line] < 250 for line in range(6)) and drawn[6] == drawn[7] == 600
