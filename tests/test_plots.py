"""Figures: the numbers that are drawn are those that were given, and every axis says what it shows."""

import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from llm_lab import plots

RECORDS = [{"step": i + 1, "loss": 6.0 - i / 10, **({"held_out_loss": 5.0} if i % 10 == 9 else {})} for i in range(40)]


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def size_of(figure):
    """Bytes of the figure as the notebooks keep it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return len(buffer.getvalue())


def test_a_learning_curve_shows_training_held_out_and_baselines():
    figure = plots.learning_curve(RECORDS, {"uniform": 6.2, "unigram": 5.5}, "It learns")
    (axes,) = figure.axes
    training, held_out, *levels = axes.get_lines()
    assert training.get_xdata().tolist() == [r["step"] for r in RECORDS]
    assert training.get_ydata() == pytest.approx([r["loss"] for r in RECORDS])  # 40 steps are not smoothed
    assert list(zip(held_out.get_xdata(), held_out.get_ydata(), strict=True)) == [(s, 5.0) for s in (10, 20, 30, 40)]
    assert [line.get_ydata()[0] for line in levels] == [6.2, 5.5]
    assert {"uniform 6.20", "unigram 5.50"} <= set(texts(axes))
    assert axes.get_xlabel() == "step" and "nats" in axes.get_ylabel() and axes.get_title(loc="left") == "It learns"


def test_a_curve_without_an_evaluation_is_drawn_as_well():
    figure = plots.learning_curve([{"step": 1, "loss": 6.0}, {"step": 2, "loss": 5.0}], {}, "Early")
    assert len(figure.axes[0].get_lines()) == 1
    assert figure.axes[0].get_legend_handles_labels()[1] == ["training batches"]


@pytest.mark.parametrize("length", [1, 39, 40, 200, 1000])
def test_smoothing_is_a_running_mean_over_a_fortieth(length):
    values = np.random.default_rng(0).normal(size=length)
    span = max(1, length // 40)
    by_hand = [values[max(0, i + 1 - span) : i + 1].mean() for i in range(length)]
    assert plots._smooth(values.tolist()) == pytest.approx(by_hand)


def test_guesses_are_bars_with_the_most_probable_on_top():
    figure = plots.guesses(["shape", "size", "end"], [0.5, 0.3, 0.01], "The blank")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.3, 0.01]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["shape", "size", "end"]
    assert axes.yaxis_inverted() and [t.strip() for t in texts(axes)] == ["0.50", "0.30", "0.01"]
    assert axes.get_xlim()[1] > 0.5
    assert plots.guesses(["a"], [0.1], "In a grid", axes) is figure


def test_a_staircase_marks_what_was_won():
    figure = plots.staircase([("uniform", 9.0), ("unigram", 6.45), ("your model", 4.6)], "Down", won="unigram")
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [9.0, 6.45, 4.6]
    assert texts(axes) == ["9.00", "6.45", "4.60"]
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in axes.patches]
    assert colours[1] == plots.COLOURS["highlight"] and colours[2] == plots.COLOURS["transformer"]
    assert len(set(colours)) == 3


def test_an_attention_map_shows_the_weights_in_their_order():
    weights = np.array([[0.9, 0.1], [0.2, 0.8]])
    figure = plots.attention_map(weights, ["the", "lamp"], "Looks")
    axes = figure.axes[0]
    assert np.array_equal(axes.images[0].get_array(), weights)  # row looks at column, not the reverse
    assert (
        [t.get_text() for t in axes.get_yticklabels()]
        == ["the", "lamp"]
        == [t.get_text() for t in axes.get_xticklabels()]
    )
    assert axes.get_xlabel() == "looks at" and axes.images[0].norm.vmax == 0.9
    assert figure.axes[1].get_ylabel() == "share of attention"


def test_a_table_marks_the_cells_that_were_named():
    figure = plots.token_table({"text": ["a", "b"], "input": ["a", "[MASK]"]}, {"input": [1]}, "Hidden")
    (axes,) = figure.axes
    bold = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    assert bold == {"text", "input", "[MASK]"}
    (frame,) = axes.patches
    cell = next(text for text in axes.texts if text.get_text() == "[MASK]")
    x, y = cell.get_position()
    assert frame.get_x() < x < frame.get_x() + frame.get_width() and frame.get_y() < y < frame.get_y() + 0.9
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first token on top


def test_the_map_names_every_stage():
    (axes,) = plots.course_map("The course").axes
    drawn = texts(axes)
    for stage, lessons, turns in plots.STAGES:
        assert {stage, lessons, turns} <= set(drawn)


def test_figures_are_small_enough_for_a_notebook():
    weights = np.random.default_rng(0).random((16, 16))
    drawn = [
        plots.learning_curve(RECORDS * 25, {"uniform": 6.2}, "It learns"),
        plots.guesses(list("abcde"), [0.5, 0.2, 0.1, 0.1, 0.1], "The blank"),
        plots.staircase([("uniform", 9.0), ("your model", 4.6)], "Down"),
        plots.attention_map(weights, ["word"] * 16, "Looks"),
        plots.course_map("The course"),
    ]
    assert all(size_of(figure) <= 60_000 for figure in drawn)


def luminance(colour):
    """Relative luminance of WCAG 2.1, section 1.4.3."""
    channels = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_are_of_the_palette_that_everyone_can_tell_apart():
    """Okabe and Ito's eight; text and lines stand out from white at 3 to 1, but for the highlight, which fills."""
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(plots.COLOURS.values()) <= okabe_ito | {"#666666"}
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)
    for name in ("transformer", "held out", "baseline", "lstm"):
        assert 1.05 / (luminance(plots.COLOURS[name]) + 0.05) >= 3
