"""The drawn difference: what is drawn, and when nothing is."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from llm_lab.checks import picture
from llm_lab.checks.compare import Difference, difference
from llm_lab.checks.picture import can_draw, draw_difference, show_difference


@pytest.fixture(autouse=True)
def matplotlib_as_it_comes():
    """Other tests of the same process set a style, and leave figures open."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("Agg")
        plt.close("all")
        yield


def images(figure):
    return [axes.images[0].get_array().tolist() for axes in figure.axes]


def test_three_panels():
    expected, got = torch.zeros(3, 4), torch.zeros(3, 4)
    got[1, 2] = 2.0
    figure = draw_difference(difference(expected, got))
    assert [axes.get_title() for axes in figure.axes] == ["expected", "yours", "yours - expected"]
    assert images(figure)[0] == expected.tolist() and images(figure)[1] == images(figure)[2] == got.tolist()
    plt.close(figure)


def test_of_many_axes_the_first_pair_that_differs_is_drawn():
    expected = torch.zeros(2, 3, 4, 5)
    got = expected.clone()
    got[1, 2, 3, 4] = -1
    figure = draw_difference(difference(expected, got))
    assert np.array(images(figure)[1]).shape == (4, 5) and np.array(images(figure)[1])[3, 4] == -1
    plt.close(figure)


@pytest.mark.parametrize("values", [torch.tensor([True] * 9), torch.arange(9), torch.full((9,), float("nan"))])
def test_rows_flags_and_nan_can_be_drawn(values):
    figure = draw_difference(Difference("values", "", values, torch.zeros(9)))
    assert len(figure.axes) == 3
    plt.close(figure)


@pytest.mark.parametrize(
    ("expected", "got"),
    [(torch.zeros(3), torch.zeros(3)), (torch.zeros(9), torch.zeros(8)), (torch.zeros(9), [0] * 9),
     (torch.zeros(100, 100), torch.ones(100, 100)), (torch.zeros(9), torch.zeros(9).to("meta")), (3, 4)],
)  # fmt: skip
def test_what_is_better_said_than_drawn(expected, got):
    assert not can_draw(Difference("values", "", expected, got))


def test_a_figure_is_shown_in_a_notebook_only_and_closed(monkeypatch):
    found, shown = difference(torch.zeros(3, 3), torch.ones(3, 3)), []
    assert not show_difference(found)
    monkeypatch.setattr(picture, "in_kernel", lambda: True)
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    assert show_difference(found) and shown == [1] and not plt.get_fignums()
    assert not show_difference(None) and not show_difference(difference(1, 2))
