r"""The phase diagram over depth and decay: where each point is best, and where a local minimum.

A row for each number M of factors, over the decay e = Λ n^{1/M} of balanced classes without bias. A
bar has a colour for each best structure (`ufm.deep_phases`), with its name; it changes at the ties.
Lines below it are the ranges in which the simplex ETF, and structures that are the best somewhere
in the diagram, are local minima. The origin is one everywhere.

    with style():
        figure, axes = plt.subplots()
        plot_depths([deep_phases(4, M) for M in (3, 4, 5)], axes)
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN, TWO_COLUMNS
from ufm.report._table import Table
from ufm.variants.deep.phases import DeepPhases

#: Colour, hatch and place in the legend of a kind of point; others are of lower rank.
_KINDS = {"simplex ETF": ("#9CC9F5", ""), "lower rank": ("#F3DB9A", "...."), "origin": ("0.85", "")}
#: The height of a bar, and the distance of the first line below it and of rows, in line distances.
_BAR, _FIRST, _GAP = 4.0, 1.3, 1.2
#: A line distance in inches.
_UNIT = 0.05
#: Colour and dashes of the lines of lower rank.
_LINES = (
    *(("#B45F06", (4, 1.2)), ("#1B7837", (1.2, 1)), ("#762A83", (5, 1, 1, 1)), ("#B2182B", ())),
    *(("#2166AC", (2, 2)), ("0.35", (6, 2))),
)
#: A name is written if the bar is as long as this many letters, as a fraction of the Axes each.
_LETTER = 0.0135
#: Short forms of the names of structures.
_SHORT = {"simplex ETF": "ETF", "regular polygon": "polygon"}

CAPTION = (
    r"The best known point over the decay $e=\Lambda n^{1/M}$, $\Lambda=(\prod\lambda)^{1/M}$, for "
    r"balanced classes without bias and $M$ factors. Boundaries: ties of two points, by bisection. "
    r"Lines below: where the simplex ETF and structures that are best somewhere are local minima, "
    r"by all eigenvalues of the Hessian. The origin is one everywhere. A best structure without a "
    r"line below was not found to be one. Structures are explicit points; they are proven to be "
    r"best for $K=3$ only, at single decays."
)


class Segment(NamedTuple):
    """A range of decays with one best structure."""

    low: float
    high: float
    name: str

    @property
    def kind(self) -> str:
        """The name of its look."""
        return self.name if self.name in _KINDS else "lower rank"


def segments(phases: DeepPhases) -> Iterator[Segment]:
    """The ranges between neighbouring ties of the best structures, over the computed decays."""
    start, name = float(phases.decays[0]), phases.best_name(0)
    for i in range(1, len(phases.decays)):
        low, high = (float(x) for x in phases.decays[i - 1 : i + 1])
        for edge, other in _changes(phases, low, high, name, phases.best_name(i)):
            yield Segment(start, edge, name)
            start, name = edge, other
    yield Segment(start, float(phases.decays[-1]), name)


def _changes(
    phases: DeepPhases, low: float, high: float, name: str, last: str
) -> Iterator[tuple[float, str]]:
    """Where the best structure changes between two decays, and to which one."""
    if name == last:
        return
    ties = [x for x in phases.ties if x.is_lowest and low <= x.decay <= high]
    # A phase in between may be narrower than the grid, and more than two may tie at one decay.
    for tie in [x for x in ties if {x.first, x.second} == {name, last}][:1] or ties:
        if name in (tie.first, tie.second):
            name = tie.second if name == tie.first else tie.first
            yield tie.decay, name
    if name != last:  # without a tie the structure became the other one
        yield float(np.sqrt(low * high)), last


def _lined(diagrams: Sequence[DeepPhases]) -> list[str]:
    """The structures whose ranges are drawn, the ETF first."""
    best = (segment.name for each in diagrams for segment in segments(each))
    local = {
        name
        for each in diagrams
        for name, ranges in zip(each.names, each.local_ranges, strict=True)
        if ranges
    }
    every = dict.fromkeys(["simplex ETF", *sorted(best)])
    return [name for name in every if name in local and name != "origin"]


def _words(name: str) -> str:
    """A short name."""
    short = name.replace(" classes", "").replace(" class", "")
    return _SHORT.get(name, short)


def _pitch(lines: int) -> float:
    """The distance of rows with this number of lines below each bar."""
    return _BAR + _FIRST + lines + _GAP


def _looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How the ranges of each structure are drawn."""
    lower = [name for name in names if name != "simplex ETF"]
    looks = {
        name: {"color": colour, "dashes": dashes, "linewidth": 1.3}
        for name, (colour, dashes) in zip(lower, itertools.cycle(_LINES), strict=False)
    }
    return {"simplex ETF": {"color": "black", "linewidth": 1.3}, **looks}


def plot_depths(
    diagrams: Sequence[DeepPhases], axes: Axes, names: Sequence[str] | None = None
) -> Axes:
    """Draw a row for each diagram, named by its number of factors.

    `names` are the structures whose ranges are drawn, by default those that are best in a diagram
    and the simplex ETF. Raises `ValueError` for different numbers of classes.
    """
    lined = _looks(_lined(diagrams) if names is None else names)
    if len({each.num_classes for each in diagrams}) != 1:
        raise ValueError("the diagrams have to be of one number of classes")
    low = min(float(each.decays[0]) for each in diagrams)
    high = max(float(each.decays[-1]) for each in diagrams)
    axes.set(xscale="log", xlim=(low, high))
    drawn = [
        {name: ranges for name, ranges in zip(each.names, each.local_ranges, strict=True)
         if name in lined and ranges}
        for each in diagrams
    ]  # fmt: skip
    pitch = _pitch(max(map(len, drawn)))
    for row, (each, ranges_of) in enumerate(zip(diagrams, drawn, strict=True)):
        for segment in segments(each):
            _draw_segment(axes, row * pitch, segment, (low, high))
        for place, name in enumerate(x for x in lined if x in ranges_of):
            level = row * pitch - _FIRST - place
            for ends in ranges_of[name]:
                last = [1] if ends[1] < high else []
                axes.plot(ends, [level] * 2, marker="|", markevery=last, markersize=3.5,
                          solid_capstyle="butt", **lined[name])  # fmt: skip
    axes.set_ylim(_BAR + _GAP - pitch, _BAR + _GAP + (len(diagrams) - 1) * pitch)
    middles = pitch * np.arange(len(diagrams)) + _BAR / 2
    axes.set_yticks(middles, [str(each.num_factors) for each in diagrams])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(r"decay $e=\Lambda n^{1/M}$")
    axes.set_ylabel("factors $M$")
    axes.set_title(f"$K={diagrams[0].num_classes}$", pad=2)
    return axes


def _draw_segment(axes: Axes, level: float, segment: Segment, ends: tuple[float, float]) -> None:
    colour, hatch = _KINDS[segment.kind]
    left, right = segment.low, segment.high
    axes.fill_between(
        [left, right], level, level + _BAR, facecolor=colour, edgecolor="0.45", hatch=hatch,
        linewidth=0.6,
    )  # fmt: skip
    words = _words(segment.name).removeprefix("simplices of ")
    length = np.log(right / left) / np.log(ends[1] / ends[0])
    if segment.kind != "origin" and length > _LETTER * len(words):
        middle = float(np.sqrt(left * right))
        box = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        axes.text(middle, level + _BAR / 2, words, ha="center", va="center", fontsize=6, bbox=box)


def depth_page(diagrams: Sequence[DeepPhases]) -> Page:
    """A panel for each number of classes, two side by side."""
    classes = list(dict.fromkeys(each.num_classes for each in diagrams))
    panels = [[each for each in diagrams if each.num_classes == K] for K in classes]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    names = _lined(diagrams)
    height = 0.65 + rows * (0.55 + _UNIT * _pitch(min(len(names), 4)) * max(map(len, panels)))
    figure = Figure(figsize=(COLUMN if columns == 1 else TWO_COLUMNS, height))
    grid = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in grid[len(panels) :]:
        unused.set_axis_off()
    for axes, panel in zip(grid, panels, strict=False):
        plot_depths(panel, axes, names)
    handles: list[Artist] = [
        Patch(facecolor=colour, edgecolor="0.45", hatch=hatch, label=f"best: {kind}")
        for kind, (colour, hatch) in _KINDS.items()
    ]
    handles += [
        Line2D([], [], label=f"local minimum: {_words(name)}", **look)
        for name, look in _looks(names).items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if columns > 1 else 2)
    return figure, [depth_table(diagrams)]


def depth_table(diagrams: Sequence[DeepPhases]) -> Table:
    """A row for each range in which a structure is best, then for each of a local minimum."""
    rows: list[tuple[DeepPhases, str, str, float, float]] = []
    for each in diagrams:
        rows += [(each, "best", name, low, high) for low, high, name in segments(each)]
        rows += [
            (each, "local minimum", name, *ends)
            for name, ranges in zip(each.names, each.local_ranges, strict=True)
            for ends in ranges
        ]
    return {
        "num_classes": np.array([each.num_classes for each, *_ in rows]),
        "num_factors": np.array([each.num_factors for each, *_ in rows]),
        **{
            name: np.array([row[place] for row in rows])
            for place, name in enumerate(("is", "structure", "from", "to"), start=1)
        },
    }


def depth_files(diagrams: Sequence[DeepPhases]) -> list[tuple[str, bytes]]:
    """Make the files of depth-phases."""
    return page_files("depth-phases", depth_page, diagrams, CAPTION)
