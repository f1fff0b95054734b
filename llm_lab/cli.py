"""The command line: `python -m llm_lab COMMAND --help` explains each command.

torch is imported by the command that needs it, not here, so that `--help` answers at once. An error is one sentence
on the standard error stream and exit status 2.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from llm_lab.config import SENTENCE_SIZES, SIZES, MaskingConfig, ModelConfig, TrainConfig
from llm_lab.tasks.finetuning_config import FinetuningConfig

if TYPE_CHECKING:
    from llm_lab.text.corpus import Corpus
    from llm_lab.text.dataset import Dataset
    from llm_lab.text.sentences import SentenceDataset
    from llm_lab.text.tokenizer import Tokenizer

CORPUS_HELP = (
    "docs, docs:python,numpy, grammar or grammar-easy (languages whose best loss is known; grammar:7 is another), "
    "a UTF-8 file or folder, a folder that `corpus` wrote, or hub:OWNER/NAME"
)
LABELLED_HELP = "a .csv or .jsonl file with the columns text and label, or tokens and tags"
RESUMABLE = 130  # the shell's exit status for a process that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage lines."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and end with exit status 2."""
        self.exit(2, f"{self.prog}: {message}; --help explains it.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        if type(error) is RuntimeError:  # not one of ours: a fault of the program, to be seen whole
            raise
        sentence = explain(error) if isinstance(error, OSError) and error.errno else str(error)
    except OSError as error:
        sentence = explain(error)
    except KeyboardInterrupt:  # outside the training loop, which saves and says so itself
        print(f"{parser.prog}: stopped.", file=sys.stderr)
        return RESUMABLE
    print(f"{parser.prog}: {sentence}", file=sys.stderr)
    return 2


def explain(error: OSError) -> str:
    """One sentence for what the system refused."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}: free some space; what was written before is intact."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"this folder can't be written{where}: choose another with --out, or change its permissions."
    return f"{error.strerror or error}{where}: check the path."


def build_parser() -> Parser:
    """All commands with their flags."""
    parser = Parser(prog="llm_lab", description="Build a corpus, train a masked language model on it, and use it.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    corpus = commands.add_parser("corpus", help="build a corpus and its tokenizer")
    corpus.add_argument("name", metavar="NAME", help=CORPUS_HELP)
    corpus.add_argument("--out", required=True, type=Path, help="folder to write")
    corpus.add_argument("--vocabulary-size", type=int, default=8192, help="entries of the tokenizer (default 8192)")
    corpus.set_defaults(run=run_corpus)

    pretrain = commands.add_parser("pretrain", help="train a masked language model")
    pretrain.add_argument("--corpus", required=True, metavar="NAME", help=CORPUS_HELP)
    pretrain.add_argument("--size", choices=SIZES, default="tiny", help="which defaults to start from (default tiny)")
    pretrain.add_argument("--out", required=True, type=Path, metavar="RUN", help="folder of the run")
    pretrain.add_argument("--resume", action="store_true", help="go on with a run that was broken off")
    for config in (TrainConfig, MaskingConfig, ModelConfig):
        add_flags(pretrain, config)
    pretrain.set_defaults(run=run_pretrain)

    fill = commands.add_parser("fill", help="fill the blanks of a sentence")
    fill.add_argument("text", help='a sentence with one or more [MASK], such as "Returns the [MASK] of the array."')
    fill.add_argument("--model", required=True, type=Path, metavar="RUN", help="folder of a run or of a model")
    fill.add_argument("--top", type=int, default=5, help="words to show for each blank (default 5)")
    fill.set_defaults(run=run_fill)

    evaluate = commands.add_parser("evaluate", help="measure a model on held-out text")
    evaluate.add_argument("--model", required=True, type=Path, metavar="RUN", help="folder of a run or of a model")
    evaluate.add_argument("--corpus", required=True, metavar="NAME", help=CORPUS_HELP)
    evaluate.add_argument("--json", action="store_true", help="print JSON, for scripts")
    evaluate.set_defaults(run=run_evaluate)

    finetune = commands.add_parser("finetune", help="teach a pretrained model a task from labelled rows")
    finetune.add_argument("--data", required=True, type=Path, metavar="FILE", help=LABELLED_HELP)
    finetune.add_argument("--model", required=True, type=Path, metavar="RUN", help="folder of a run or of a model")
    finetune.add_argument("--out", required=True, type=Path, metavar="RUN2", help="folder to write")
    held_out = "rows to measure on: a share of the data from 0 up to, not including, 1, or another file (default 0.1)"
    finetune.add_argument("--held-out", default="0.1", metavar="SHARE|FILE", help=held_out)
    add_flags(finetune, FinetuningConfig)
    finetune.set_defaults(run=run_finetune)

    predict = commands.add_parser("predict", help="label texts with a fine-tuned model")
    predict.add_argument("--model", required=True, type=Path, metavar="RUN2", help="folder that `finetune` wrote")
    source = predict.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="FILE", help=LABELLED_HELP + "; labels and tags are not read")
    source.add_argument("--text", help="one text")
    predict.add_argument("--json", action="store_true", help="print JSON, for scripts")
    predict.set_defaults(run=run_predict)

    export = commands.add_parser("export", help="write a model in the form of another library")
    export.add_argument("--model", required=True, type=Path, metavar="RUN", help="folder of a run or of a model")
    export.add_argument("--to", required=True, choices=["hf"], help="hf: a folder for transformers' from_pretrained")
    export.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    export.set_defaults(run=run_export)

    progress = commands.add_parser("progress", help="show which exercises pass")
    progress.set_defaults(run=run_progress)
    return parser


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """A flag for each field of a config; a flag that isn't given leaves the default of the chosen size."""
    group = parser.add_argument_group(config.__name__)
    for one in fields(config):
        flag = "--" + one.name.replace("_", "-")
        by_size = {
            str(getattr(part, one.name))
            for size in (*SIZES.values(), *SENTENCE_SIZES.values())
            for part in _parts(size)
            if isinstance(part, config)
        } or {str(one.default)}
        default = by_size.pop() if len(by_size) == 1 else "depends on size and corpus"
        help = f"{one.metadata['help']} ({default})".replace("%", "%%")
        if one.type == "bool":  # --flag and --no-flag
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=help)
        else:
            kind = {"int": int, "float": float, "str": str}[str(one.type)]
            group.add_argument(flag, type=kind, metavar=kind.__name__.upper(), help=help)


def _parts(size: Any) -> tuple[ModelConfig, TrainConfig, MaskingConfig]:
    return size.model, size.train, size.masking


def _with_flags(config: Any, options: argparse.Namespace) -> Any:
    given = {one.name: getattr(options, one.name) for one in fields(config)}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def say(line: str) -> None:
    """Progress goes to the standard error stream, so that results can be piped."""
    print(line, file=sys.stderr, flush=True)


# -- the commands -----------------------------------------------------------------------------------------------------


def run_corpus(options: argparse.Namespace) -> int:
    """`corpus`: build, save, and print what was built."""
    from llm_lab.text.corpus import build_corpus, save_corpus
    from llm_lab.text.dataset import train_corpus_tokenizer
    from llm_lab.text.grammar import language_named
    from llm_lab.text.sentences import as_corpus

    language = language_named(options.name)
    if language is not None:  # its vocabulary is what it is
        corpus, tokenizer = as_corpus(language), language.tokenizer
    else:
        corpus = build_corpus(options.name, progress=say)
        tokenizer = train_corpus_tokenizer(corpus, options.vocabulary_size)
    save_corpus(corpus, options.out)
    tokenizer.save(options.out / "tokenizer.json")
    ids = tokenizer.encode_many([document.text for document in corpus.documents])
    before, after = corpus.leak_shares()
    print(f"documents   {len(corpus.documents):,} ({len(corpus.split('held_out')):,} held out)")
    print(f"words       {corpus.num_words:,}")
    print(f"tokens      {sum(len(row) for row in ids):,} (vocabulary of {tokenizer.vocabulary_size:,})")
    print(f"leaks       {before:.2%} of the held-out documents repeated training text; {after:.2%} after dropping them")
    print(f"SHA-256     {corpus.sha}")
    print(f"written to  {options.out}")
    return 0


def run_pretrain(options: argparse.Namespace) -> int:
    """`pretrain`: train, and say where the model is."""
    from llm_lab.tasks.pretraining import pretrain
    from llm_lab.text.grammar import language_named
    from llm_lab.train.distributed import is_first

    size = (SIZES if language_named(options.corpus) is None else SENTENCE_SIZES)[options.size]
    model, train, masking = (_with_flags(part, options) for part in _parts(size))
    dataset = load_dataset(options.corpus, model.vocabulary_size, train.row_length)
    run = pretrain(dataset, model, train, masking, options.out, options.resume)
    if not is_first():
        return 0
    if run.interrupted:
        say(f"Stopped and saved at step {len(run.records)} of {train.steps}; the same command with --resume goes on.")
        return RESUMABLE
    say(f"The model is in {options.out / 'model'}; metrics in {options.out / 'metrics.jsonl'}.")
    return 0


def run_fill(options: argparse.Namespace) -> int:
    """`fill`: the best words for each blank with their probabilities."""
    from llm_lab.tasks.masked_language_model import fill, unknown_words
    from llm_lab.tasks.pretrained import load_pretrained

    if options.top < 1:
        raise ValueError(f"--top is {options.top}: ask for at least 1 word.")
    pretrained = load_pretrained(options.model)
    for number, guesses in enumerate(fill(pretrained.model, pretrained.tokenizer, options.text, options.top), 1):
        print(f"blank {number}")
        for guess in guesses:
            print(f"  {guess.word:<20} {guess.probability:.3f}")
    unknown = unknown_words(pretrained.tokenizer, options.text)
    if unknown:
        say(f"The model's vocabulary can't spell {', '.join(map(repr, unknown))}: it read [UNK] there.")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """`evaluate`: held-out measures, as a table or as JSON."""
    from llm_lab.tasks.evaluation import evaluate, table
    from llm_lab.tasks.pretrained import load_pretrained

    pretrained = load_pretrained(options.model)
    row_length = pretrained.record.get("train", {}).get("row_length", TrainConfig().row_length)
    measured = evaluate(pretrained, load_dataset(options.corpus, 0, row_length, pretrained.tokenizer))
    print(json.dumps(measured) if options.json else "\n".join(table(measured)))
    return 0


def run_finetune(options: argparse.Namespace) -> int:
    """`finetune`: train on labelled rows, and say how good the model is on others."""
    from llm_lab.tasks.finetuning import finetune_into
    from llm_lab.tasks.labelled import labels_of, read_parts
    from llm_lab.tasks.pretrained import load_pretrained

    settings = _with_flags(FinetuningConfig(), options)
    task, train, held_out = read_parts(options.data, options.held_out, settings.seed)
    kinds = "labels" if task == "classification" else "tags"
    say(f"  {task}: {len(train):,} rows to learn from, {len(held_out):,} held out, {len(labels_of(train)):,} {kinds}.")
    tuned = finetune_into(options.out, load_pretrained(options.model), task, train, held_out, settings)
    if tuned is None:
        say("Stopped and saved; the same command goes on.")
        return RESUMABLE
    measured = "; ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in tuned.record["result"].items())
    say(f"The model is in {options.out / 'model'}: {measured or 'no rows were held out'}.")
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """`predict`: a label with its probability for each text, or a tag for each word."""
    from llm_lab.tasks.finetuning import load_finetuned, predict_examples
    from llm_lab.tasks.labelled import one_input, read_inputs

    tuned = load_finetuned(options.model)
    asked = one_input(options.text, tuned.task) if options.data is None else read_inputs(options.data, tuned.task)
    found = predict_examples(tuned, asked, say)
    if options.json:
        print(json.dumps(found))
        return 0
    for answer in found:
        for one in answer if tuned.task == "tagging" else [answer]:
            *words, probability = one.values()
            print("".join(f"{word:<20} " for word in words) + f"{probability:.3f}")
        if tuned.task == "tagging":
            print()  # between sentences
    return 0


def run_export(options: argparse.Namespace) -> int:
    """`export`: the model for `transformers`."""
    from llm_lab.huggingface import export
    from llm_lab.tasks.pretrained import load_pretrained

    export(load_pretrained(options.model), options.out)
    say(f"The model for transformers is in {options.out}: AutoModelForMaskedLM.from_pretrained reads it.")
    return 0


def run_progress(options: argparse.Namespace) -> int:
    """`progress`: lesson by lesson, and how near the predictions were."""
    from llm_lab.checks import progress

    progress()
    return 0


def load_dataset(
    name: str, vocabulary_size: int, row_length: int, tokenizer: Tokenizer | None = None
) -> Dataset | SentenceDataset:
    """The corpus of this name as rows: with the given tokenizer, else the one saved beside it, else its own new one.

    A known language has its own vocabulary and row length.
    """
    from llm_lab.text.corpus import build_corpus
    from llm_lab.text.dataset import prepare
    from llm_lab.text.grammar import language_named
    from llm_lab.text.sentences import SentenceDataset
    from llm_lab.text.tokenizer import load_tokenizer

    language = language_named(name)
    if language is not None:
        return SentenceDataset(language)
    corpus: Corpus = build_corpus(name, progress=say)
    if tokenizer is None:
        with contextlib.suppress(FileNotFoundError):
            tokenizer = load_tokenizer(Path(name) / "tokenizer.json")
    return prepare(corpus, vocabulary_size, row_length, tokenizer)
