"""The command line: a round trip from a text file to filled blanks, and one sentence for every kind of bad input."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from llm_lab import cli, home
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.text.grammar import easy_language, hard_language
from llm_lab.text.optimum import floor

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("corpus", "pretrain", "fill", "evaluate", "export")
TINY = (
    "--steps 6 --batch-rows 4 --row-length 16 --width 16 --num-layers 1 --num-heads 2 --feed-forward-width 16 "
    "--vocabulary-size 300 --evaluate-every 3 --checkpoint-every 2 --device cpu --precision fp32"
).split()


def call(capsys, *arguments):
    """Run a command in this process. Returns its exit status, standard output and standard error."""
    capsys.readouterr()
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def refused(capsys, *arguments):
    """The sentence with which a command refuses bad input: one line, exit status 2, nothing else printed."""
    status, out, err = call(capsys, *arguments)
    assert status == 2, (status, out, err)
    assert out == ""
    sentence = err.splitlines()[-1]
    assert sentence.startswith("llm_lab") and sentence.endswith((".", ")")), sentence
    assert "Traceback" not in err
    assert [line for line in err.splitlines()[:-1] if not line.startswith("  ")] == []  # progress at most
    return sentence


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory, text_file, session_home):
    """What `corpus` writes."""
    folder = tmp_path_factory.mktemp("cli") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_LAB_HOME", str(session_home))
        assert cli.main(["corpus", str(text_file), "--out", str(folder), "--vocabulary-size", "300"]) == 0
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, corpus_folder, session_home):
    """What `pretrain` writes."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_LAB_HOME", str(session_home))
        assert cli.main(["pretrain", "--corpus", str(corpus_folder), "--out", str(folder), *TINY]) == 0
    return folder


# -- help -------------------------------------------------------------------------------------------------------------


def test_help_answers_without_torch():
    program = (
        "import sys, llm_lab.cli as cli\n"
        "for command in ('', 'corpus', 'pretrain', 'fill', 'evaluate', 'export'):\n"
        "    try: cli.main([*command.split(), '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'tokenizers', 'safetensors', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"usage: llm_lab {command}" in done.stdout


def test_every_field_of_the_configs_is_a_flag_with_its_default(capsys):
    status, out, _ = call(capsys, "pretrain", "--help")
    text = " ".join(out.split())
    assert status == 0
    for config in (ModelConfig, TrainConfig, MaskingConfig):
        for field in fields(config):
            assert f"--{field.name.replace('_', '-')} " in out
            assert " ".join(field.metadata["help"].split()[:3]) in text.replace("- ", "-")
    assert "depends on size and corpus" in text and "(0.3)" in text
    assert "tiny,small,base" in out


@pytest.mark.parametrize("command", ["", "corpus", "pretrain", "fill", "evaluate"])
def test_help_has_no_line_that_says_none(capsys, command):
    status, out, _ = call(capsys, *command.split(), "--help")
    assert status == 0 and "None" not in out and "metadata" not in out


# -- from a text to filled blanks -------------------------------------------------------------------------------------


def test_corpus_prints_what_it_wrote(capsys, text_file, tmp_path, tiny_corpus):
    from llm_lab.text.corpus import load_corpus
    from llm_lab.text.tokenizer import load_tokenizer

    status, out, _ = call(capsys, "corpus", text_file, "--out", tmp_path / "c", "--vocabulary-size", 250)
    assert status == 0
    corpus, tokenizer = load_corpus(tmp_path / "c"), load_tokenizer(tmp_path / "c" / "tokenizer.json")
    tokens = sum(len(tokenizer.encode(document.text)) for document in corpus.documents)
    assert corpus.documents == tiny_corpus.documents and tokenizer.vocabulary_size == 250
    held_out = len(corpus.split("held_out"))
    for line in (
        f"documents   {len(corpus.documents)} ({held_out} held out)",
        f"words       {corpus.num_words:,}",
        f"tokens      {tokens:,} (vocabulary of 250)",
        f"SHA-256     {corpus.sha}",
    ):
        assert line in out.splitlines()


def test_a_run_leaves_its_metrics_checkpoints_and_model(run_folder):
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    record = json.loads((run_folder / "run.json").read_text())
    assert record["model"]["width"] == 16 and record["train"]["steps"] == 6
    assert record["masking"]["rate"] == 0.3  # what was not given stays at the default of the size
    assert record["train"]["learning_rate"] == cli.SIZES["tiny"].train.learning_rate
    written = {"README.md", "config.json", "tokenizer.json", "model.safetensors"}
    assert {p.name for p in (run_folder / "model").iterdir()} == written
    assert [p.name for p in sorted((run_folder / "checkpoints").iterdir())] == ["step-00000004.pt", "step-00000006.pt"]


def test_the_saved_tokenizer_of_a_corpus_folder_is_used(capsys, corpus_folder, tmp_path):
    from llm_lab.text.tokenizer import train_tokenizer
    from tests import samples

    shutil.copytree(corpus_folder, tmp_path / "corpus")
    train_tokenizer(samples.sentences(200), 200).save(tmp_path / "corpus" / "tokenizer.json")
    arguments = ("pretrain", "--corpus", tmp_path / "corpus", "--out", tmp_path / "run", *TINY)  # asks for 300 entries
    assert call(capsys, *arguments)[0] == 0
    names = (tmp_path / "corpus" / "tokenizer.json", tmp_path / "run" / "model" / "tokenizer.json")
    assert names[0].read_text() == names[1].read_text()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"]["vocabulary_size"] == 200


@pytest.mark.parametrize("top", [1, 3])
def test_fill_prints_the_best_words_of_each_blank(capsys, run_folder, top):
    from llm_lab.tasks.masked_language_model import fill
    from llm_lab.tasks.pretrained import load_pretrained

    text = "The old gardener paints the [MASK] lamp near the [MASK]."
    status, out, err = call(capsys, "fill", text, "--model", run_folder, "--top", top)
    assert status == 0 and err == ""
    pretrained = load_pretrained(run_folder)
    expected = []
    for number, guesses in enumerate(fill(pretrained.model, pretrained.tokenizer, text, top), 1):
        expected += [[f"blank {number}"], *([guess.word, f"{guess.probability:.3f}"] for guess in guesses)]
    assert [line.split() if not line.startswith("blank") else [line] for line in out.splitlines()] == expected


def test_an_unknown_word_is_named_and_the_blank_filled(capsys, run_folder):
    status, out, err = call(capsys, "fill", "The лампа near the [MASK].", "--model", run_folder)
    assert status == 0 and len(out.splitlines()) == 6
    assert err == "The model's vocabulary can't spell 'лампа': it read [UNK] there.\n"


def test_evaluate_prints_the_same_numbers_for_scripts_and_for_readers(capsys, run_folder, corpus_folder):
    status, out, _ = call(capsys, "evaluate", "--model", run_folder, "--corpus", corpus_folder, "--json")
    measured = json.loads(out)
    last = json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert status == 0
    assert measured["held_out_loss"] == pytest.approx(last["held_out_loss"], rel=1e-6)
    assert {"held_out_accuracy", "bits_per_byte", "pseudo_perplexity", "unigram_loss", "targets"} <= set(measured)
    status, out, _ = call(capsys, "evaluate", "--model", run_folder, "--corpus", corpus_folder)
    shown = {line[:30].strip().replace(" ", "_"): line[30:].split()[0] for line in out.splitlines() if line[30:]}
    plain = {name: value for name, value in measured.items() if isinstance(value, (int, float)) and name != "same_text"}
    assert status == 0 and set(plain) <= set(shown)
    for name, value in plain.items():
        assert float(shown[name].replace(",", "")) == pytest.approx(value, abs=6e-5)
    low, high = measured["held_out_loss_interval"]
    assert low < measured["held_out_loss"] < high and f"{low:.3f} to {high:.3f}" in out


def test_json_stands_alone_even_when_the_cache_can_not_be_written(capsys, run_folder, text_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path / "file"))
    status, out, err = call(capsys, "evaluate", "--model", run_folder, "--corpus", text_file, "--json")
    assert status == 0 and json.loads(out)["targets"] > 0
    assert "Not kept in the cache" in err


GRAMMAR = [word for i, word in enumerate(TINY) if "--row-length" not in (word, TINY[i - 1])]


@pytest.fixture(scope="module")
def grammar_run(tmp_path_factory, session_home):
    """A run on the hard language, far from trained."""
    folder = tmp_path_factory.mktemp("cli") / "grammar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_LAB_HOME", str(session_home))
        assert cli.main(["pretrain", "--corpus", "grammar", "--out", str(folder), *GRAMMAR]) == 0
    return folder


def test_on_a_known_language_evaluate_knows_the_floor(capsys, grammar_run):
    status, out, _ = call(capsys, "evaluate", "--model", grammar_run, "--corpus", "grammar", "--json")
    measured = json.loads(out)
    language = hard_language()
    expected = floor(language, n=4000, seed=9)  # other sentences than evaluate's
    error = (measured["floor_standard_error"] ** 2 + expected.standard_error**2) ** 0.5
    assert status == 0 and abs(measured["floor"] - expected.mean) < 4 * error
    # the loss is what happened, floor + excess what was to be expected
    assert abs(measured["held_out_loss"] - measured["floor"] - measured["excess"]) < 0.15
    assert set(measured["excess_by_kind"]) == set(language.kinds)
    status, out, _ = call(capsys, "evaluate", "--model", grammar_run, "--corpus", "grammar")
    by_kind, pairs = out[out.index("excess by kind") :].split("\n\n")[:2]
    assert f"{measured['excess_by_kind']['adjacent verb']:.4f}" in by_kind
    assert f"oracle {measured['minimal_pairs']['adjacent verb']['oracle']:.3f}" in pairs


def test_the_run_of_a_known_language_is_masked_as_the_oracle_assumes(grammar_run):
    run = json.loads((grammar_run / "run.json").read_text())
    assert run["masking"]["selection"] == "bernoulli" and run["train"]["row_length"] == 26
    assert run["corpus"]["name"] == "grammar" and run["model"]["vocabulary_size"] == len(hard_language().vocabulary)


def test_a_known_language_as_a_corpus(capsys, tmp_path):
    status, out, _ = call(capsys, "corpus", "grammar-easy:2", "--out", tmp_path / "text")
    assert status == 0 and "documents   20,000" in out and "vocabulary of 55" in out
    first = json.loads((tmp_path / "text" / "documents.jsonl").read_text().splitlines()[0])["text"]
    assert easy_language(2).log_probability(easy_language(2).ids_of([first])).isfinite().all()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--corpus", "grammar:seven"], "'grammar:seven' has no whole number after the colon"),
        (["--corpus", "grammar", "--row-length", "64"], "leave out --row-length"),
        (["--corpus", "grammar", "--architecture", "gru"], "choose one of transformer, rnn, lstm, bilstm, window"),
        (["--corpus", "grammar", "--convolution", "2"], "give 0 or an odd number"),
    ],
)
def test_bad_flags_for_a_known_language(capsys, tmp_path, flags, words):
    assert words in refused(capsys, "pretrain", "--out", tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_yes_or_no_flag_has_both_forms(capsys, tmp_path, corpus_folder):
    words = "--positions learned --norm-place post --norm-epsilon 1e-12 --feed-forward gelu".split()
    for flags, expected in (([], False), (["--biases"], True), (["--no-biases"], False)):
        out = tmp_path / "".join(["run", *flags])
        status, _, err = call(capsys, "pretrain", "--corpus", corpus_folder, "--out", out, *TINY, *words, *flags)
        assert status == 0, err
        stored = json.loads((out / "run.json").read_text())["model"]
        assert stored["biases"] is expected
        assert (stored["norm_place"], stored["norm_epsilon"], stored["feed_forward"]) == ("post", 1e-12, "gelu")
    assert "unrecognized arguments" in refused(capsys, "pretrain", "--corpus", "docs", "--out", "x", "--biases", "yes")


def test_a_model_of_another_vocabulary_is_not_held_against_the_floor(capsys, grammar_run, run_folder):
    for model, corpus in ((run_folder, "grammar"), (grammar_run, "grammar-easy")):
        sentence = refused(capsys, "evaluate", "--model", model, "--corpus", corpus)
        assert "another vocabulary" in sentence


def test_a_finished_run_resumes_to_the_same_model(capsys, run_folder, corpus_folder):
    before = (run_folder / "model" / "model.safetensors").read_bytes()
    status, _, err = call(capsys, "pretrain", "--corpus", corpus_folder, "--out", run_folder, "--resume", *TINY)
    assert status == 0 and "The model is in" in err
    assert (run_folder / "model" / "model.safetensors").read_bytes() == before


def test_ctrl_c_says_how_to_go_on(capsys, corpus_folder, tmp_path, monkeypatch):
    import signal

    from llm_lab.text.batches import BatchStream

    real = BatchStream.batch

    def interrupted(stream, step):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return real(stream, step)

    arguments = ("pretrain", "--corpus", corpus_folder, "--out", tmp_path / "run", *TINY)
    monkeypatch.setattr(BatchStream, "batch", interrupted)
    status, _, err = call(capsys, *arguments)
    assert status == 130
    assert "Stopped and saved at step 3 of 6; the same command with --resume goes on." in err
    monkeypatch.undo()
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    assert call(capsys, *arguments, "--resume")[0] == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_before_the_training_is_no_traceback(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_dataset", interrupted)
    status, out, err = call(capsys, "pretrain", "--corpus", "docs", "--out", "nowhere")
    assert (status, out, err) == (130, "", "llm_lab: stopped.\n")


# -- bad input --------------------------------------------------------------------------------------------------------

BAD_FILES = {
    "empty": (b"", "contains no text"),
    "blank": (b"\n \n", "contains no text"),
    "binary": (bytes(range(256)) * 9, "is a binary file"),
    "utf-16": ("Some text.\n\nAnd more.".encode("utf-16"), "is UTF-16, not UTF-8"),
    "utf-16 without its mark": (("Some text.\n\nAnd more." * 9).encode("utf-16-le"), "is UTF-16, not UTF-8"),
    "latin-1": ("Un café.\n\nUn thé.".encode("latin-1"), "is not UTF-8"),
    "one paragraph": (b"A single paragraph.", "too small to split"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", ["corpus", "pretrain"])
def test_a_file_that_is_no_text(capsys, tmp_path, kind, command):
    content, words = BAD_FILES[kind]
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    arguments = ("corpus", path, "--out") if command == "corpus" else ("pretrain", "--corpus", path, "--out")
    assert words in refused(capsys, *arguments, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["no/such/file.txt", "wikipedia", "", "docs:nothing", "x" * 5000])
def test_a_corpus_that_is_not_there(capsys, tmp_path, name):
    assert len(refused(capsys, "pretrain", "--corpus", name, "--out", tmp_path / "run")) > 30
    refused(capsys, "corpus", name, "--out", tmp_path / "out")


def unwritable(tmp_path):
    """Paths that nobody can write, root neither."""
    (tmp_path / "file").write_text("mine")
    yield tmp_path / "file"
    yield tmp_path / "file" / "below"
    if Path("/proc/self").is_dir():
        yield Path("/proc/nothing/run")


@pytest.mark.parametrize("command", ["corpus", "pretrain"])
def test_a_folder_that_can_not_be_written(capsys, tmp_path, corpus_folder, text_file, command):
    for out in unwritable(tmp_path):
        if command == "corpus":
            sentence = refused(capsys, "corpus", text_file, "--out", out)
        else:
            sentence = refused(capsys, "pretrain", "--corpus", corpus_folder, "--out", out, *TINY)
        assert str(out) in sentence or str(out.parent) in sentence
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(capsys, tmp_path, text_file):
    (tmp_path / "closed").mkdir(mode=0o500)
    sentence = refused(capsys, "corpus", text_file, "--out", tmp_path / "closed" / "out")
    assert "can't be written" in sentence


@pytest.mark.parametrize("moment", ["corpus", "pretrain"])
def test_a_full_disk(capsys, tmp_path, corpus_folder, text_file, monkeypatch, moment):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if moment == "corpus" or len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(home.os, "fsync", full)
    if moment == "corpus":
        sentence = refused_at_last(capsys, "corpus", text_file, "--out", tmp_path / "out")
    else:
        sentence = refused_at_last(capsys, "pretrain", "--corpus", corpus_folder, "--out", tmp_path / "run", *TINY)
        from llm_lab.train.checkpoint import all_checkpoints, load_checkpoint

        kept = all_checkpoints(tmp_path / "run" / "checkpoints")
        assert kept and all(load_checkpoint(path)["step"] for path in kept)
    assert "disk is full" in sentence


def refused_at_last(capsys, *arguments):
    """As `refused`, after some work that printed its progress."""
    status, _, err = call(capsys, *arguments)
    assert status == 2 and "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.parametrize("rate", ["0", "1", "1.5", "-0.1", "nan"])
def test_a_mask_rate_outside_of_0_and_1(capsys, tmp_path, corpus_folder, rate):
    sentence = refused(capsys, "pretrain", "--corpus", corpus_folder, "--out", tmp_path, f"--rate={rate}")
    assert f"the mask rate is {float(rate)}: choose a share between 0 and 1" in sentence


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["--learning-rate", "-1"], "learning_rate is -1.0"),
        (["--width", "10", "--num-heads", "4"], "can't be divided among 4 heads"),
        (["--size", "huge"], "invalid choice: 'huge'"),
        (["--seed", "-3"], "seed is -3"),
        (["--scheme", "half"], "choose pure or 80/10/10"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["--vocabulary-size", "3"], "a vocabulary of 3 has no room for words"),
        (["--row-length", "1024"], "rows of 1024 tokens are longer than the model's 512"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_flag_that_makes_no_sense(capsys, tmp_path, text_file, flags, words):
    sentence = refused(capsys, "pretrain", "--corpus", text_file, "--out", tmp_path / "run", "--steps", "2", *flags)
    assert words in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["corpus"], ["fill", "The [MASK]."], ["evaluate", "--model", "x"]]
)
def test_an_incomplete_command(capsys, arguments):
    assert "--help explains it." in refused(capsys, *arguments)


def test_a_row_longer_than_every_document(capsys, tmp_path, text_file):
    flags = ("--row-length", "100000", "--max-length", "100000")
    sentence = refused(capsys, "pretrain", "--corpus", text_file, "--out", tmp_path / "run", *flags)
    assert "fewer than one row of 100000: give more text or a smaller row length" in sentence


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_on_resume(capsys, tmp_path, run_folder, corpus_folder, damage):
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-00000006.pt"
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + (b"" if damage == "cut" else bytes([data[middle] ^ 1]) + data[middle + 1 :]))
    arguments = ("pretrain", "--corpus", corpus_folder, "--out", tmp_path / "run", "--resume", *TINY)
    assert "step-00000006.pt is damaged (its checksum differs): delete it" in refused(capsys, *arguments)
    path.unlink()  # as the sentence says
    assert call(capsys, *arguments)[0] == 0
    same = [(f / "model" / "model.safetensors").read_bytes() for f in (tmp_path / "run", run_folder)]
    assert same[0] == same[1]


def test_another_size_on_resume(capsys, run_folder, corpus_folder):
    flags = [*TINY, "--width", "32"]
    sentence = refused(capsys, "pretrain", "--corpus", corpus_folder, "--out", run_folder, "--resume", *flags)
    assert "was started with width 16, not 32: resume with the settings it was started with" in sentence


def test_a_run_is_not_overwritten(capsys, run_folder, corpus_folder):
    sentence = refused(capsys, "pretrain", "--corpus", corpus_folder, "--out", run_folder, *TINY)
    assert "already holds a run: add --resume" in sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No blank in this sentence.", "the sentence has no [MASK]"),
        ("", "the sentence is empty"),
        ("  ", "the sentence is empty"),
        ("[MASK] " + "lamp " * 10_000, "the text has 10,003 tokens, this model reads at most 512: shorten it"),
        ("lamp " * 10_000, "the sentence has no [MASK]"),
    ],
    ids=["no mask", "empty", "blank", "10,000 words", "10,000 words without a mask"],
)
def test_a_sentence_that_can_not_be_filled(capsys, run_folder, text, words):
    assert words in refused(capsys, "fill", text, "--model", run_folder)


def test_no_words_asked_for(capsys, run_folder):
    assert "--top is 0: ask for at least 1 word" in refused(capsys, "fill", "[MASK]", "--model", run_folder, "--top", 0)


@pytest.mark.parametrize("command", ["fill", "evaluate"])
def test_a_model_that_is_missing_or_damaged(capsys, tmp_path, run_folder, corpus_folder, command):
    def sentence(folder):
        if command == "fill":
            return refused(capsys, "fill", "The [MASK].", "--model", folder)
        return refused(capsys, "evaluate", "--corpus", corpus_folder, "--model", folder)

    assert "there is no trained model in" in sentence(tmp_path / "nowhere")
    shutil.copytree(run_folder / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    assert "model.safetensors is damaged (its checksum differs)" in sentence(tmp_path / "model")
    weights.write_bytes(data[: len(data) // 2])
    assert "model.safetensors is damaged" in sentence(tmp_path / "model")
    weights.write_bytes(data)
    from llm_lab.text.tokenizer import train_tokenizer

    train_tokenizer(["the lamp near the river"] * 3, 60).save(tmp_path / "model" / "tokenizer.json")
    assert "take the tokenizer that the model was trained with" in sentence(tmp_path / "model")


def test_text_of_unknown_words_alone(capsys, tmp_path, run_folder):
    letters = [chr(code) for code in range(0x4E00, 0x5E00)]
    text = "\n\n".join(" ".join("".join(letters[i : i + 2]) for i in range(j, j + 40)) for j in range(0, 4000, 40))
    (tmp_path / "chinese.txt").write_text(text, encoding="utf-8")
    status, _, err = call(capsys, "evaluate", "--model", run_folder, "--corpus", tmp_path / "chinese.txt")
    assert status == 2
    assert "no word of this text is in the model's vocabulary" in err.splitlines()[-1]


def test_a_loss_that_is_no_number_is_one_sentence(capsys, tmp_path, corpus_folder, monkeypatch):
    from llm_lab.model.heads import MaskedLanguageModel

    real = MaskedLanguageModel.loss_sum
    monkeypatch.setattr(MaskedLanguageModel, "loss_sum", lambda *a: real(*a) * float("nan"))
    sentence = refused_at_last(capsys, "pretrain", "--corpus", corpus_folder, "--out", tmp_path / "run", *TINY)
    assert "the loss of step 1 is not a number: look at" in sentence


def test_a_fault_of_the_program_is_seen_whole(capsys, monkeypatch):
    """A bare RuntimeError is none of ours: hiding it behind a sentence would hide a bug."""

    def broken(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "load_dataset", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["pretrain", "--corpus", "docs", "--out", "nowhere"])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full (place): free some space; what was written before is intact."),
        (errno.EACCES, "this folder can't be written (place): choose another with --out"),
        (errno.EROFS, "this folder can't be written (place)"),
        (errno.ENOTDIR, "Not a directory (place): check the path."),
    ],
)
def test_what_the_system_refuses_is_explained(number, words):
    assert cli.explain(OSError(number, os.strerror(number), "place")).startswith(words)


def test_the_module_is_the_command(tmp_path):
    """`python -m llm_lab`, as a reader types it: exit status and stream of the sentence."""
    command = [sys.executable, "-m", "llm_lab", "corpus", str(tmp_path / "nothing.txt"), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "LLM_LAB_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "There is no corpus, file or folder" in done.stderr
