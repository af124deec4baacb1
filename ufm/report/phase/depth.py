r"""The phase diagram over depth and decay: the best point, and whether the ETF is a minimum.

A row for each number M of factors, over the decay e = Λ n^{1/M} of balanced classes without bias. A
bar has a colour for each best structure (`ufm.deep_phases`), with its name; it changes at the ties.
The line below it is where the simplex ETF is a local minimum. The origin is one everywhere.

    with style():
        figure, axes = plt.subplots()
        plot_depths([deep_phases(4, M) for M in (3, 4, 5)], axes)
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
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
#: Half the height of a bar, and where the line of the ETF is, in rows.
_HALF, _BELOW = 0.3, 0.38
#: A name is written if the bar is as long as this many letters, as a fraction of the Axes each.
_LETTER = 0.0135
#: Short forms of the names of structures.
_SHORT = {"simplex ETF": "ETF", "regular polygon": "polygon"}

CAPTION = (
    r"The best known point over the decay $e=\Lambda n^{1/M}$, $\Lambda=(\prod\lambda)^{1/M}$, for "
    r"balanced classes without bias and $M$ factors. Boundaries: ties of two points, by bisection. "
    r"Lines below: the simplex ETF is a local minimum; it is not one to the right of their ends. "
    r"The origin is a local minimum everywhere. Structures are explicit points; they are proven "
    r"minima for $K=3$ only, at single decays."
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


def plot_depths(diagrams: Sequence[DeepPhases], axes: Axes) -> Axes:
    """Draw a row for each diagram, named by its number of factors.

    Raises `ValueError` for different numbers of classes.
    """
    if len({each.num_classes for each in diagrams}) != 1:
        raise ValueError("the diagrams have to be of one number of classes")
    low = min(float(each.decays[0]) for each in diagrams)
    high = max(float(each.decays[-1]) for each in diagrams)
    axes.set(xscale="log", xlim=(low, high))
    for row, each in enumerate(diagrams):
        for segment in segments(each):
            _draw_segment(axes, row, segment, (low, high))
        end = min(each.local_limit, high)
        axes.plot([low, end], [row - _BELOW] * 2, color="black", linewidth=1.4, marker="|",
                  markevery=[1], markersize=4)  # fmt: skip
    axes.set_ylim(-0.5, len(diagrams) - 0.5)
    axes.set_yticks(range(len(diagrams)), [str(each.num_factors) for each in diagrams])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(r"decay $e=\Lambda n^{1/M}$")
    axes.set_ylabel("factors $M$")
    axes.set_title(f"$K={diagrams[0].num_classes}$", pad=2)
    return axes


def _draw_segment(axes: Axes, row: int, segment: Segment, ends: tuple[float, float]) -> None:
    colour, hatch = _KINDS[segment.kind]
    left, right = segment.low, segment.high
    axes.fill_between(
        [left, right], row - _HALF, row + _HALF, facecolor=colour, edgecolor="0.45", hatch=hatch,
        linewidth=0.6,
    )  # fmt: skip
    words = _SHORT.get(segment.name, segment.name.replace(" classes", "").replace(" class", ""))
    words = words.replace("simplices of ", "")
    length = np.log(right / left) / np.log(ends[1] / ends[0])
    if segment.kind != "origin" and length > _LETTER * len(words):
        middle = float(np.sqrt(left * right))
        box = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        axes.text(middle, row, words, ha="center", va="center", fontsize=6, bbox=box)


def depth_page(diagrams: Sequence[DeepPhases]) -> Page:
    """A panel for each number of classes, two side by side."""
    classes = list(dict.fromkeys(each.num_classes for each in diagrams))
    panels = [[each for each in diagrams if each.num_classes == K] for K in classes]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    height = 0.5 + rows * (0.55 + 0.3 * max(map(len, panels)))
    figure = Figure(figsize=(COLUMN if columns == 1 else TWO_COLUMNS, height))
    grid = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in grid[len(panels) :]:
        unused.set_axis_off()
    for axes, panel in zip(grid, panels, strict=False):
        plot_depths(panel, axes)
    patches = [
        Patch(facecolor=colour, edgecolor="0.45", hatch=hatch, label=f"best: {kind}")
        for kind, (colour, hatch) in _KINDS.items()
    ]
    line = Line2D([], [], color="black", linewidth=1.4, label="the ETF is a local minimum")
    figure.legend(handles=[*patches, line], loc="outside lower center", ncols=2 * columns)
    return figure, [depth_table(diagrams)]


def depth_table(diagrams: Sequence[DeepPhases]) -> Table:
    """A row for each segment: K, M, its ends, the structure, and the limit of the ETF."""
    rows = [(each, segment) for each in diagrams for segment in segments(each)]
    return {
        "num_classes": np.array([each.num_classes for each, _ in rows]),
        "num_factors": np.array([each.num_factors for each, _ in rows]),
        "from": np.array([segment.low for _, segment in rows]),
        "to": np.array([segment.high for _, segment in rows]),
        "best": np.array([segment.name for _, segment in rows]),
        "etf_is_local_below": np.array([each.local_limit for each, _ in rows]),
    }


def depth_files(diagrams: Sequence[DeepPhases]) -> list[tuple[str, bytes]]:
    """Make the files of depth-phases."""
    return page_files("depth-phases", depth_page, diagrams, CAPTION)
