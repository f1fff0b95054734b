"""What the unit tests share: a home of their own, and a corpus, tokenizer and dataset small enough for milliseconds."""

import sys

import hypothesis
import pytest

from tests import samples

hypothesis.settings.register_profile("course", deadline=None, derandomize=True, database=None, max_examples=30)
hypothesis.settings.load_profile("course")


@pytest.fixture(scope="session")
def session_home(tmp_path_factory):
    """The folder that stands for the reader's in all tests."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors on several threads spend their time waiting: 12 ms a step instead of 0.05."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def lab_home(session_home, monkeypatch):
    """No test reads or writes what the reader keeps in the repository."""
    monkeypatch.setenv("LLM_LAB_HOME", str(session_home))
    monkeypatch.delenv("LLM_LAB_FAST", raising=False)
    return session_home


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A UTF-8 file with about 7,000 words in our own words."""
    path = tmp_path_factory.mktemp("text") / "mine.txt"
    path.write_text(samples.paragraphs(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_corpus(text_file):
    """The corpus of `text_file`."""
    from llm_lab.text.corpus import build_corpus

    return build_corpus(str(text_file), progress=lambda line: None)


@pytest.fixture(scope="session")
def tiny_dataset(tiny_corpus, session_home):
    """Rows of 16 tokens with a vocabulary of about 250."""
    from llm_lab.text.dataset import prepare

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_LAB_HOME", str(session_home))
        return prepare(tiny_corpus, 300, 16)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_dataset):
    """The tokenizer of `tiny_dataset`."""
    return tiny_dataset.tokenizer
