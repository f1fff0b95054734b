"""Tasks from the documentation: no name left, parts by module, tags that agree with the backticks."""

import re
from collections import Counter

import pytest

from llm_lab.tasks.documentation_tasks import (
    LIBRARIES,
    code_sentences,
    code_task,
    library_task,
    masked_names,
    tagged_sentences,
)
from llm_lab.text.corpus import Corpus, CorpusError
from llm_lab.text.documentation import read_file
from llm_lab.text.documents import Document, is_held_out, mark_parts

# -- which library ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, masked",
    [
        ("Like numpy.linalg.norm, but in PyTorch.", "Like library, but in library."),
        ("A TorchScript function (torch.jit).", "A library function (library)."),
        ("Call np.add or plt.plot; see mpl.rcParams.", "Call library or library; see library."),
        ("An nx graph. Python's own. IPython.", "An library graph. library's own. library."),
        ("matplotlib.pyplot, SymPy's and NetworkX-like.", "library, library's and library-like."),
        ("The npz of stochastic nxt mplx", "The npz of stochastic nxt mplx"),
    ],
)
def test_names_are_masked(text, masked):
    assert masked_names(text) == masked


@pytest.fixture(scope="module")
def corpus():
    """40 modules of two libraries and one of another, with texts in which the library's name stands."""
    documents = []
    for library, modules, what in (("numpy", 40, "array"), ("torch", 40, "tensor"), ("requests", 5, "page")):
        for m in range(modules):
            for d in range(5):
                text = f"Part {m} in {library}.part{m} tells under number {d} which {what} {library} returns."
                documents.append(Document(text, library, f"{library}.part{m}", f"f{d}", "function"))
            documents.append(Document("Return the name.", library, f"{library}.part{m}", "short", "function"))
    return Corpus("test", mark_parts(documents), {}, "sha")


def test_parts_share_no_module_and_are_balanced(corpus):
    parts = library_task(corpus)
    module = {masked_names(d.text) + d.library: d.module for d in corpus.documents}
    modules = [{module[e.content + e.answers[0]] for e in part} for part in parts]
    assert all(modules) and not modules[0] & modules[1] and not (modules[0] | modules[1]) & modules[2]
    assert modules[2] <= {m for m in module.values() if is_held_out(m)}
    assert not modules[0] & {m for m in module.values() if is_held_out(m)}
    for part in (parts.validation, parts.test):
        counts = Counter(e.answers[0] for e in part)
        assert set(counts) == {"numpy", "torch"} and len(set(counts.values())) == 1
    everything = [e.content for part in parts for e in part]
    assert not any(re.search("numpy|torch", text) for text in everything)
    assert "Return the name." not in everything
    assert parts == library_task(corpus)


def test_what_was_dropped_from_the_corpus_is_dropped(corpus):
    changed = [
        Document(**{**d.__dict__, "part": "dropped" if i % 7 == 0 else d.part}) for i, d in enumerate(corpus.documents)
    ]
    kept = {e.content for part in library_task(Corpus("test", tuple(changed), {}, "sha")) for e in part}
    gone = {masked_names(d.text) for d in changed if d.part == "dropped"} - {
        masked_names(d.text) for d in changed if d.part != "dropped"
    }
    assert {"array", "tensor"} <= {word for text in gone for word in text.split()} and not kept & gone


def test_a_corpus_of_other_text_is_refused(tiny_corpus):
    with pytest.raises(CorpusError, match=f"has no two of the libraries {LIBRARIES[0]}, .*: take the corpus docs"):
        library_task(tiny_corpus)


# -- which words are code ---------------------------------------------------------------------------------------------


def plain(example):
    return [
        f"{word}/{tag[0]}" if tag != "O" else word for word, tag in zip(example.content, example.answers, strict=True)
    ]


@pytest.mark.parametrize(
    "paragraph, expected",
    [
        ("Returns the sum of ``x`` and of `y`.", "Returns the sum of x/B and of y/B ."),
        ("It calls :func:`~numpy.add` and :meth:`pop()` once.", "It calls numpy.add/B and pop/B once ."),
        ("The shape is always ``(3, 4)`` for this one.", "The shape is always (/B 3/I ,/I 4/I )/I for this one ."),
        ("See :class:`the class <a.B>` for more of this.", "See the/B class/I for more of this ."),
        ("A ``for``-loop is what this will be called in.", "A for/B - loop is what this will be called in ."),
        ("One that is not marked. This one has ``code`` in it.", "This one has code/B in it ."),
    ],
)  # fmt: skip
def test_tags_by_hand(paragraph, expected):
    assert [" ".join(plain(example)) for example in tagged_sentences(paragraph)] == [expected]


@pytest.mark.parametrize(
    "paragraph",
    [
        "There is no code in this sentence at all.",
        "The formula :math:`x` and the link `page <https://a.b>`_ are no code.",
        "This `reference`_ is a link to a page.",
        "``x`` is how this sentence starts and so it is none.",
        "It returns ``x[0] + {1}`` to the one who calls.",
    ],
)
def test_what_is_no_code_or_no_sentence_of_the_corpus_gives_nothing(paragraph):
    assert list(tagged_sentences(paragraph)) == []


MODULE = '''
"""Tools. The function ``first`` returns what :func:`second` has not used."""

def first(x):
    """Return the value of ``x`` and the number of its parts.

    If `x` is not given, the default of `first` is used for it. It is the same as ``second(x)`` was.

    >>> first(1)  # ``not prose``

    Parameters
    ----------
    x : array
        Where the parts of ``x`` are, as a list of names.
    """
'''


def test_a_file_gives_the_sentences_of_the_corpus(tmp_path):
    """Whatever is tagged reads, without tags, as the cleaner's own sentence; and its code stood in backticks."""
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    found = list(code_sentences((str(path), "mine", "module")))
    assert len(found) == 5
    (*documents,) = read_file((str(path), "mine", "module"))
    whole = {"".join(sentence.split()) for *_, paragraphs in documents for kept in paragraphs for sentence in kept}
    text = re.sub(r"\s+", " ", MODULE)
    for example in found:
        assert "".join(example.content) in whole
        for word, tag in zip(example.content, example.answers, strict=True):
            if tag == "B-CODE":
                assert re.search(rf"`[~.]?{re.escape(word)}[`(]", text)


def test_a_library_is_split_by_module_and_no_sentence_is_on_both_sides():
    parts = code_task(("prompt_toolkit",), most=200, most_held_out=40)
    assert len(parts.train) == 200 and len(parts.test) == 40 and parts.validation == []
    assert not {e.content for e in parts.train} & {e.content for e in parts.test}
    assert len({e.content for e in parts.train}) == 200
    for example in parts.train + parts.test:
        assert len(example.content) == len(example.answers) and "B-CODE" in example.answers and "O" in example.answers
        assert "`" not in "".join(example.content) and not re.search(r"Qz[a-j]+q", " ".join(example.content))
    assert parts == code_task(("prompt_toolkit",), most=200, most_held_out=40)
    assert code_task(("prompt_toolkit",), most=200, most_held_out=40, seed=1) != parts
    with pytest.raises(CorpusError, match="too little code is marked in jinja2, nowhere: name other or more libraries"):
        code_task(("jinja2", "nowhere"))
