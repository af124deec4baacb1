"""What all pages share: two schemes of colours, print, and sentences for those who do not see."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ufm.report._page import ON_DARK, page_style, render
from ufm.report._style import style
from ufm.report._svg import _PANEL
from ufm.report._words import counted, span
from ufm.report.sweep.page import _MARGINS


@pytest.fixture(scope="module")
def schemes() -> list[dict[str, str]]:
    """The colours of the light scheme, and those of the dark one."""
    page = render("page.html.j2", title="t", config={}, environments=[])
    assert "@media screen and (prefers-color-scheme: dark)" in page
    assert "@media print" in page
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block))
        for block in re.findall(r":root {[^}]*}", page)
    )
    assert light.keys() == dark.keys()
    return [light, dark]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_is_readable_in_both_schemes(schemes):
    for scheme in schemes:
        for ink in ("ink", "soft"):
            for paper in ("paper", "box", "good-box", "bad-box"):
                low, high = sorted(luminance(scheme[name]) for name in (ink, paper))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)  # WCAG AA


def test_lines_are_seen_on_either_paper(schemes):
    """WCAG asks 3 of graphics; the lightest colour of print has a marker, and is held to 1.5."""
    with style():
        cycle = [to_hex(each["color"]) for each in mpl.rcParams["axes.prop_cycle"]]
    light, dark = (luminance(scheme["paper"]) for scheme in schemes)
    for colour in cycle:
        assert (light + 0.05) / (luminance(colour) + 0.05) >= 1.5
        assert (luminance(ON_DARK.get(colour, colour)) + 0.05) / (dark + 0.05) >= 3.0


def test_a_span_of_numbers_in_words():
    assert span([3.0, np.nan, 0.125]) == "0.12 to 3"
    assert span([0.5, 0.5], "+.2f") == "+0.50"
    assert span([np.inf, np.nan]) == "no number"
    assert span([-2e-17, 0.0]) == "0"  # rounding is no result
    assert (counted(1, "run"), counted(1200, "run")) == ("1 run", "1,200 runs")


@pytest.mark.parametrize("name", ["$f$ − lower bound", r"$\lambda_H$", r"$\rho$, mean margin"])
@pytest.mark.parametrize("lowest", [1e-14, 1e-4])
def test_names_of_axes_are_within_the_panel(name, lowest):
    with page_style():
        figure = Figure(figsize=_PANEL)
        axes = figure.subplots()
        figure.subplots_adjust(**_MARGINS)
        axes.set(yscale="log", ylim=(lowest, 1.0), ylabel=name, xlabel=r"temperature $\tau$")
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
    for label in (axes.xaxis.label, axes.yaxis.label):
        assert np.all(label.get_window_extent().min > 0.0)
