"""What every figure of the library keeps to, so that a paper takes it as it is."""

import itertools

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from ufm.report import COLUMN, TWO_COLUMNS

#: Formats of a figure, in alphabetical order.
KINDS = ("csv", "pdf", "png", "svg", "tex")
#: Points: the thinnest line and the smallest letter that print.
THINNEST, SMALLEST = 0.6, 6.0


def names_of(*figures: str) -> set[str]:
    """Names of all files of figures."""
    return {f"{figure}.{kind}" for figure in figures for kind in KINDS}


def check_print(figure: Figure) -> None:
    """Widths of columns, no hairlines, no fine print, nothing told by colour alone."""
    assert figure.get_figwidth() in (COLUMN, TWO_COLUMNS)
    for axes in figure.axes:
        lines = [line for line in axes.lines if line.get_linestyle() != "None"]
        assert all(line.get_linewidth() >= THINNEST for line in lines)
        for drawn in axes.collections:
            if isinstance(drawn, LineCollection) and drawn.get_segments():
                assert np.min(drawn.get_linewidth()) >= THINNEST
        named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        for one, other in itertools.combinations(named, 2):
            if to_hex(one.get_color()) != to_hex(other.get_color()):
                assert _shape(one) != _shape(other), (one.get_label(), other.get_label())
    for text in figure.findobj(Text):
        assert not text.get_text() or float(text.get_fontsize()) >= SMALLEST


def _shape(line) -> tuple[str, ...]:
    """What is left of a line without its colour."""
    hollow = str(line.get_markerfacecolor()) == "none"
    return str(line._unscaled_dash_pattern), str(line.get_marker()), str(hollow)
