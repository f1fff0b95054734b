"""`python -m benchmarks COMMAND --help` explains each command. torch is imported by the command that needs it."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from llm_lab.cli import Parser
from llm_lab.home import runs_folder

COMMANDS = {
    "throughput": "tokens a second of whole training steps, ours and others in turns on the same batches",
    "learning": "how long BERT needs to reach the loss that ours has after a minute",
    "scaling": "cost and memory as rows, width, depth, vocabulary, mask rate and batch grow",
    "ladder": "what each lever of speed brings, alone and together",
    "table": "write the results into benchmarks/README.md",
}
SIZE_NAMES = ("M", "S", "wide", "deep", "5M", "17M", "34M")
CONTESTANT_HELP = "only these rows of the table; the ratios need 'ours'"


def build_parser() -> Parser:
    """All commands with their flags."""
    parser = Parser(prog="benchmarks", description="Speed and memory, side by side with other libraries.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(name=name)
        command.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
        if name != "table":
            _common(command)
    throughput, learning = commands.choices["throughput"], commands.choices["learning"]
    for name in ("throughput", "scaling", "ladder"):
        _timed(commands.choices[name])
    add = throughput.add_argument
    add("--rows-kind", nargs="+", default=["full", "ragged"], choices=["full", "ragged"], help="(both)")
    add("--only", nargs="+", metavar="NAME", help=CONTESTANT_HELP)
    add("--peak-tflops", type=float, help="the card's peak, if its name isn't in the list")
    add("--profile", action="store_true", help="instead: which operators our step spends its time on")
    add = learning.add_argument
    add("--corpus", default="docs", help="what `python -m llm_lab corpus` takes (docs)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--optimizers", nargs="+", default=["AdamW", "Muon"], choices=["AdamW", "Muon"], help="of BERT (both)")
    add("--cap", type=int, default=20, help="longest run of BERT, in minutes: 1, 2, 5, 10 or 20 (20)")
    add("--workers", type=int, default=2, help="runs side by side, one thread each (2)")
    add("--fresh", action="store_true", help="don't go on in the newest file of this machine")
    commands.choices["ladder"].add_argument("--lesson", action="store_true", help="lesson 12's rows instead")
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--quick", action="store_true", help="tiny and short: proves that it runs; results go to runs/benchmarks")
    add("--size", nargs="+", choices=SIZE_NAMES, help="models (M and S; learning S; on a GPU 5M, 17M and 34M)")
    for name in ("width", "layers", "heads", "vocabulary", "length", "rows"):
        add(f"--{name}", type=int, help=f"instead of the size's own {name}")
    add("--mask-rate", type=float, help="share of hidden tokens (0.15)")


def _timed(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--threads", nargs="+", type=int, default=[1], help="threads of a CPU, one measurement each (1)")
    add("--rounds", type=int, default=5, help="how often each one has its turn (5)")
    add("--steps", type=int, default=4, help="training steps of a turn (4)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    add("--precision", default="auto", help="auto, fp32, bf16 or fp16 (auto: measured)")
    add("--no-compile", action="store_true", help="leave out what torch.compile would take minutes for")
    add("--no-memory", action="store_true", help="don't measure peak memory, which starts a process each")


def _command_line(words: list[str]) -> str:
    """The command as a results file keeps it, without a folder of this machine."""
    if "--out" in words:
        place = words.index("--out")
        words = words[:place] + words[place + 2 :]
    return shlex.join(["python", "-m", "benchmarks", *words])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    options.command_line = _command_line(list(sys.argv[1:] if arguments is None else arguments))
    if getattr(options, "quick", False) and options.out is None:
        options.out = runs_folder() / "benchmarks"
    module = importlib.import_module(f"benchmarks.{'tables' if options.name == 'table' else options.name}")
    try:
        return module.command(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
