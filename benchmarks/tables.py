"""The results as Markdown, and `python -m benchmarks table`, which writes them into README.md between its markers.

No number of the page is typed by hand: a test renders it again and compares.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.machine import headline
from benchmarks.results import newest
from benchmarks.timing import Spread, ratios, spread

README = Path(__file__).parent / "README.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_MEASURED = "Not measured yet."
NO_CARD = "On a GPU: not measured; no machine with one was at hand."
OURS_FIRST = ("ours", "ours, packed")  # the row that the ratios are taken of
SAME_SHAPE = "ours as BERT"  # and the one that computes what BERT computes


def grid(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    return "\n".join(lines) + "\n"


def with_range(value: Spread, form: str = ",.0f") -> str:
    """`1,234 (1,200 to 1,250)`."""
    return f"{value.median:{form}} ({value.low:{form}} to {value.high:{form}})"


def conditions(run: dict[str, Any]) -> str:
    """What a table's heading says of the run."""
    if run.get("device") == "cuda":
        return "on the card"
    return f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"


def shape_words(run: dict[str, Any]) -> str:
    """A size in words."""
    shape = run["shape"]
    parts = (
        f"width {shape['width']}, {shape['layers']} layers, vocabulary {shape['vocabulary']:,}",
        f"{shape['rows']} rows of {shape['length']} tokens, {shape['mask_rate']:.0%} hidden",
    )
    return ", ".join(parts)


# -- throughput -------------------------------------------------------------------------------------------------------


def base_of(run: dict[str, Any]) -> dict[str, Any] | None:
    """The contestant that the ratios are taken of: ours."""
    return next((one for one in run["contestants"] if one["name"] in OURS_FIRST), None)


def ratio_to(base: dict[str, Any] | None, other: dict[str, Any]) -> Spread | None:
    """How many times as many real tokens a second ours trains, round by round."""
    if base is None:
        return None
    return spread(ratios(base["seconds"], other["seconds"], base["tokens"], other["tokens"]))


def throughput_table(run: dict[str, Any]) -> str:
    """One measurement: a row a contestant."""
    bases = [base_of(run), *(one for one in run["contestants"] if one["name"] == SAME_SHAPE)]
    maker = run.get("maker_tflops")
    head = ["", "real tokens/s", "our speed / theirs", f"{SAME_SHAPE} / theirs"][: 2 + len(bases)]
    head += ["format", "GFLOP a step", "share of the peak"]
    head += ["MFU"] * bool(maker) + ["first step", "memory", "parameters"]
    rows = [_row(one, bases, run["peak_gflops"], maker) for one in run["contestants"]]
    peaks = ", ".join(f"{name} {value:,.0f}" for name, value in run["peak_gflops"].items())
    title = f"**{run['size']}, {run['rows']} rows, {conditions(run)}** ({shape_words(run)}; {run['rounds']} rounds"
    title += f"; matrix product in GFLOP/s: {peaks}; load before: {load_words(run)})"
    lines = [title, "", grid(head, rows)]
    if run["rows"] == "ragged":
        lines.append(padding_sentence(run))
    lines += [f"{sentence}\n" for sentence in dict.fromkeys(run["skipped"])]
    return "\n".join(lines)


def load_words(run: dict[str, Any]) -> str:
    """The load average of the minute before the run."""
    return f"{run['load'][0]:.1f}" if run.get("load") else "unknown"


def _row(
    one: dict[str, Any], bases: list[dict[str, Any] | None], peaks: dict[str, float], maker: float | None
) -> list[str]:
    speed = spread([one["tokens"] / seconds for seconds in one["seconds"]])
    rate = one["flops"] / statistics.median(one["seconds"]) / 1e9  # GFLOP/s
    variant = f" ({one['variant']})" if one["variant"] and len(one["trials"]) > 1 else ""
    cells = [one["name"] + variant, with_range(speed)]
    for base in bases:
        ratio = None if base is one or one["name"].startswith("ours") and base is not bases[0] else ratio_to(base, one)
        cells.append("" if ratio is None else with_range(ratio, ".2f"))
    cells += [one["precision"], flops_words(one), f"{rate / peaks[one['precision']]:.0%}" if one["flops"] else ""]
    cells += [f"{rate / 1000 / maker:.1%}"] if maker else []
    return [*cells, f"{one['first_step_seconds']:.1f} s", memory_words(one.get("memory")), f"{one['parameters']:,}"]


def flops_words(one: dict[str, Any]) -> str:
    """Counted operations of a step, with the formula's where they differ, and the optimizer's."""
    steps = one["steps"]
    words = f"{one['flops'] / steps / 1e9:.2f}"
    formula = words if one["formula_flops"] is None else f"{one['formula_flops'] / steps / 1e9:.2f}"
    words += f" (formula {formula})" if formula != words else ""
    return words + (f" + {one['optimizer_flops'] / steps / 1e9:.2f}" if one["optimizer_flops"] else "")


def memory_words(memory: dict[str, float] | None) -> str:
    """Peak memory, less what the process held before the model was built."""
    return "" if not memory else f"{memory['peak_mb'] - memory['before_mb']:,.0f} MB"


def padding_sentence(run: dict[str, Any]) -> str:
    """What packing alone brings, apart from everything else."""
    by_name = {one["name"]: one for one in run["contestants"]}
    parts = []
    for name in ("ours", "BERT"):
        packed, padded = by_name.get(f"{name}, packed"), by_name.get(f"{name}, padded")
        if packed and padded:
            gain = ratio_to(packed, padded)
            assert gain is not None
            parts.append(f"{gain.median:.2f} times for {name}")
    padded = by_name.get("BERT, padded") or next(iter(by_name.values()))
    filled = padded["tokens"] / padded["places"]
    return f"Of the padded places {filled:.0%} are real. Packing alone: {', '.join(parts) or 'not measured'}.\n"


# -- the other commands -----------------------------------------------------------------------------------------------


def profile_table(runs: list[dict[str, Any]]) -> str:
    """Shares of a step by group of operators, a column a run."""
    head = ["of our step's time", *(f"{run['size']}, {conditions(run)}, {run['precision']}" for run in runs)]
    rows = [[group, *(f"{run['shares'][group]:.0%}" for run in runs)] for group in runs[0]["shares"]]
    rows.append(["step", *(f"{run['step_ms']:,.0f} ms" for run in runs)])
    return grid(head, rows)


def scaling_table(runs: list[dict[str, Any]]) -> str:
    """Each axis: time and operations relative to its first value, the same work per token or not."""
    rows = []
    for run in runs:
        first = run["points"][0] if "points" in run else None
        for point in run.get("points", []):
            assert first is not None
            time, flops = ratios(point["seconds"], first["seconds"]), point["flops"] / first["flops"]
            times = [1 / value for value in time]
            rate = point["flops"] / statistics.median(point["seconds"]) / 1e9
            value = f"{point['value']:,}" if isinstance(point["value"], int) else f"{point['value']}"
            label = f"{run['axis'].replace('_', ' ')} {value}"
            speed = spread([point["tokens"] / seconds for seconds in point["seconds"]])
            growth = with_range(spread(times), ".2f")
            row = [f"{run['size']}, {conditions(run)}", label, with_range(speed), growth, f"{flops:.2f}", f"{rate:.0f}"]
            rows.append(row)
    return grid(["size", "at", "tokens/s", "time grows by", "operations grow by", "GFLOP/s"], rows)


def checkpointing_table(runs: list[dict[str, Any]]) -> str:
    """Memory with and without activation checkpointing, and its price."""
    rows, prices = [], []
    for run in runs:
        if run["axis"] != "checkpointing":
            continue
        name = f"{run['size']}, {conditions(run)}"
        price = spread([1 / x for x in ratios(run["seconds"]["checkpointed"], run["seconds"]["kept"])])
        prices.append(f"{name}: a step takes {with_range(price, '.2f')} times as long.")
        pairs = zip(run["memory"][::2], run["memory"][1::2], strict=True)
        rows += [[name, f"{kept['rows']}", memory_words(kept), memory_words(saved)] for kept, saved in pairs]
    if not rows:
        return ""
    return grid(["size", "rows of a batch", "kept", "checkpointed"], rows) + "\n" + " ".join(prices) + "\n"


def ladder_table(run: dict[str, Any]) -> str:
    """The levers: tokens a second, and how many times faster than the naive step."""
    naive = run["seconds"]["naive"]
    rows = []
    for name, seconds in run["seconds"].items():
        speed = spread([run["tokens"] / value for value in seconds])
        rows.append([name, with_range(speed), with_range(spread(ratios(seconds, naive)), ".2f")])
    title = f"**{run['size']}, {conditions(run)}, best format {run['precision']}**\n\n"
    return title + grid(["levers", "tokens/s", "times the naive step"], rows)


def lesson_table(run: dict[str, Any]) -> str:
    """Lesson 12's rows: speed and the held-out loss of three seeds."""
    rows = []
    base = run["rows"][0]
    for one in run["rows"]:
        loss = with_range(spread(one["losses"]), ".2f") if one["losses"] else "not measured"
        speed = one["tokens_per_second"]
        rows.append([one["row"], f"{speed:,.0f}", f"{speed / base['tokens_per_second']:.2f}", loss])
    return grid(["row of lesson 12", "tokens/s", "times the base", "held-out loss, 3 seeds"], rows)


def learning_table(content: dict[str, Any]) -> str:
    """When each model reaches our loss of a minute."""
    if "target" not in content:
        return "The search is under way.\n"
    minute, target, runs = content["minute"], content["target"], content["runs"]
    rows = []
    for model, rate in content["best_rates"].items():
        mine = [run for run in runs if run["model"] == model and run["learning_rate"] == rate]
        for seconds in sorted({run["seconds"] for run in mine}):
            losses = spread([run["held_out_loss"] for run in mine if run["seconds"] == seconds])
            right = spread([run["held_out_accuracy"] for run in mine if run["seconds"] == seconds])
            read = spread([run["tokens"] for run in mine if run["seconds"] == seconds])
            row = [model, f"{rate:g}", f"{seconds:,.0f} s", f"{read.median:,.0f}", with_range(losses, ".2f")]
            rows.append([*row, with_range(right, ".1%")])
    head = ["", "learning rate", "budget", "tokens read", "held-out loss", "right"]
    sentences = [verdict(content, model) for model in content["best_rates"] if model != "ours"]
    return grid(head, rows) + f"\nOur mean loss after {minute:.0f} s: {target:.2f}. " + " ".join(sentences) + "\n"


def verdict(content: dict[str, Any], model: str) -> str:
    """How many times as long a model takes to our loss, a seed each: between which budgets, or above the longest."""
    minute, target, rate = content["minute"], content["target"], content["best_rates"][model]
    words = []
    for seed in sorted({run["seed"] for run in content["runs"] if run["model"] == "ours"}):
        mine = [r for r in content["runs"] if (r["model"], r["learning_rate"], r["seed"]) == (model, rate, seed)]
        reached = [run["seconds"] / minute for run in mine if run["held_out_loss"] <= target]
        missed = [run["seconds"] / minute for run in mine if run["held_out_loss"] > target]
        low, high = max(missed, default=0), min(reached, default=math.inf)
        words.append(f"more than {low:g}" if high == math.inf else f"more than {low:g}, at most {high:g}")
    return f"{model} needs {'; '.join(words)} times our time (a seed each)."


# -- the page ---------------------------------------------------------------------------------------------------------


def render(command: str, folder: Path | None = None) -> str:
    """All newest results of a command as Markdown, a machine at a time; a sentence where there is none."""
    parts = []
    contents = newest(command, folder)
    for content in contents:
        parts.append(f"{headline(content['machine'])}; {content['date']}.\n")
        parts += SECTIONS[command](content)
    if not contents:
        parts.append(f"{NOT_MEASURED}\n")
    if command == "throughput" and not any("card" in content["machine"] for content in contents):
        parts.append(f"{NO_CARD}\n")
    return "\n".join(parts)


def _ladder_sections(content: dict[str, Any]) -> list[str]:
    return [(lesson_table if "rows" in run else ladder_table)(run) for run in content["runs"]]


SECTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "throughput": lambda content: [throughput_table(run) for run in content["runs"]],
    "profile": lambda content: [profile_table(content["runs"])],
    "learning": lambda content: [learning_table(content)],
    "scaling": lambda content: [scaling_table(content["runs"]), checkpointing_table(content["runs"])],
    "ladder": _ladder_sections,
}


def rendered(page: str, folder: Path | None = None) -> str:
    """The page with every table between its markers written anew."""
    return MARKED.sub(lambda found: found[1] + "\n" + render(found[2], folder) + "\n" + found[3], page)


def command(options: argparse.Namespace) -> int:
    """`python -m benchmarks table`."""
    README.write_text(rendered(README.read_text(encoding="utf-8"), options.out), encoding="utf-8")
    print(f"written: benchmarks/{README.name}")
    return 0
