"""The figures of the course, in one style: one message a figure, said in its title.

Each function draws on the current style and returns the figure; a notebook cell ends in `plt.show()`. Colours are
Okabe and Ito's, which colour-blind readers can tell apart; the same thing has the same colour in every lesson.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "transformer": "#0072B2",
    "held out": "#D55E00",
    "baseline": "#666666",
    "lstm": "#009E73",
    "window": "#CC79A7",
    "highlight": "#E69F00",
}


def use_style() -> None:
    """Set the course's look: white ground (legible on a dark page, too), large letters, no box."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 80,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "axes.axisbelow": True,
            "lines.linewidth": 1.8,
        }
    )


def learning_curve(
    records: Sequence[Mapping[str, float]], baselines: Mapping[str, float], title: str, axes: Axes | None = None
) -> Figure:
    """Training and held-out loss against the step, with each baseline (name -> nats) as a labelled line."""
    axes = axes or plt.subplots()[1]
    step = [r["step"] for r in records]
    axes.plot(step, _smooth([r["loss"] for r in records]), color=COLOURS["transformer"], label="training batches")
    held_out = [(r["step"], r["held_out_loss"]) for r in records if "held_out_loss" in r]
    if held_out:  # a run that was broken off early has none yet
        axes.plot(*zip(*held_out, strict=True), "o-", color=COLOURS["held out"], label="held-out text")
    for name, nats in baselines.items():
        _level(axes, nats, name)
    axes.set(xlabel="step", ylabel="loss (nats a hidden word)", title=title)
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.94), frameon=False)  # below the uniform line
    return axes.get_figure()  # type: ignore[return-value]


def _level(axes: Axes, nats: float, name: str) -> None:
    axes.axhline(nats, color=COLOURS["baseline"], linestyle="--", linewidth=1.2)
    axes.annotate(
        f"{name} {nats:.2f}",
        (1, nats),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=COLOURS["baseline"],
        fontsize=10,
    )


def _smooth(values: Sequence[float]) -> np.ndarray:
    """A running mean over a fortieth of the curve, so that the eye sees the trend."""
    span = max(1, len(values) // 40)
    total = np.cumsum([0.0, *values])
    start = np.maximum(0, np.arange(1, len(total)) - span)
    return (total[1:] - total[start]) / (np.arange(1, len(total)) - start)


def guesses(words: Sequence[str], probabilities: Sequence[float], title: str, axes: Axes | None = None) -> Figure:
    """The best words for a blank as horizontal bars, most probable on top."""
    axes = axes or plt.subplots()[1]
    place = np.arange(len(words))
    axes.barh(place, probabilities, color=COLOURS["transformer"])
    axes.set_yticks(place, words)
    axes.invert_yaxis()
    axes.set(xlabel="probability", title=title, xlim=(0, max(0.05, *probabilities) * 1.25))
    for y, p in zip(place, probabilities, strict=True):
        axes.annotate(f" {p:.2f}", (p, y), va="center", fontsize=10)
    axes.grid(False)
    return axes.get_figure()  # type: ignore[return-value]


def staircase(levels: Sequence[tuple[str, float]], title: str, won: str = "") -> Figure:
    """The course's staircase: from knowing nothing (ln V) down, one step a way of guessing; `won` marks today's."""
    figure, axes = plt.subplots()
    for i, (name, nats) in enumerate(levels):
        colour = COLOURS["highlight"] if name == won else COLOURS["transformer"] if i == len(levels) - 1 else "#9ab8cc"
        axes.bar(i, nats, width=0.9, color=colour)
        axes.annotate(f"{nats:.2f}", (i, nats), ha="center", va="bottom", fontsize=11)
    names = [name.replace(" ", "\n", 1) for name, _ in levels]
    axes.set_xticks(range(len(levels)), names, fontsize=11 if len(levels) < 7 else 9)  # neighbours must not touch
    axes.set(ylabel="loss (nats a hidden word)", title=title, ylim=(0, levels[0][1] * 1.12))
    axes.grid(False, axis="x")
    return figure


def attention_map(weights: np.ndarray, tokens: Sequence[str], title: str, axes: Axes | None = None) -> Figure:
    """One head's attention (T, T): row = the word that looks, column = the word it looks at; dark = much."""
    axes = axes or plt.subplots(figsize=(5.2, 4.6))[1]
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=max(0.3, float(np.max(weights))))
    axes.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(tokens)), tokens)
    axes.set(xlabel="looks at", ylabel="the word that looks", title=title)
    axes.grid(False)
    figure = axes.get_figure()
    figure.colorbar(image, ax=axes, label="share of attention", shrink=0.85)  # type: ignore[union-attr]
    return figure  # type: ignore[return-value]


def token_table(columns: Mapping[str, Sequence[str]], marked: Mapping[str, Collection[int]], title: str) -> Figure:
    """One token a line, from top to bottom, in named columns of equal length; `marked` cells (column -> lines) are
    framed, coloured and bold.
    """
    length = len(next(iter(columns.values())))
    figure, axes = plt.subplots(figsize=(0.4 + 1.3 * len(columns), 0.9 + 0.27 * length))
    for x, (name, cells) in enumerate(columns.items()):
        axes.text(x, -1, name, ha="center", va="center", fontweight="bold", color=COLOURS["transformer"])
        for y, cell in enumerate(cells):
            if y in marked.get(name, ()):
                place = (x - 0.47, y - 0.45)
                axes.add_patch(plt.Rectangle(place, 0.94, 0.9, facecolor="#fbe3b6", edgecolor=COLOURS["highlight"]))
            weight = "bold" if y in marked.get(name, ()) else "normal"
            axes.text(x, y, cell, ha="center", va="center", fontweight=weight)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(length - 0.4, -1.6), title=title)
    axes.axis("off")
    return figure


STAGES = (
    ("Guess", "01 guessing words", "the language whose best loss is known"),
    ("Text", "02 tokens   03 corpus   04 masking", "from files to batches"),
    ("Model", "05 recurrent   06 attention   07 positions   08 encoder", "from token ids to scores"),
    ("Train", "09 loop   10 pretraining   11 clinic   12 skills   13 scaling out", "from scores to skill"),
    ("Judge", "14 evaluation   15 looking inside", "how good, and why"),
    ("Use", "16 fine-tuning   17 to 22 answers, search, translation, speech ...", "from skill to tasks"),
    ("Field", "23 Hugging Face   24 cost, data, privacy   25 your own corpus", "your own project"),
)


def course_map(title: str) -> Figure:
    """The course from top to bottom: what each stage turns into what, and its lessons."""
    figure, axes = plt.subplots(figsize=(7.0, 4.2))
    for i, (stage, lessons, turns) in enumerate(STAGES):
        y = -i
        axes.add_patch(plt.Rectangle((0, y - 0.36), 1.25, 0.72, facecolor=COLOURS["transformer"]))
        axes.text(0.62, y, stage, color="white", ha="center", va="center", fontweight="bold")
        axes.text(1.4, y + 0.14, lessons, va="center", fontsize=10.5)
        axes.text(1.4, y - 0.2, turns, va="center", fontsize=9.5, color=COLOURS["baseline"], style="italic")
        if i:
            axes.annotate("", (0.62, y + 0.37), (0.62, y + 0.64), arrowprops={"arrowstyle": "->", "color": "#444444"})
    axes.set(xlim=(0, 8), ylim=(-len(STAGES) + 0.5, 0.5), title=title)
    axes.axis("off")
    return figure
