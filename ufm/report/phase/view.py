"""Draw phase diagrams: colours over a plane, or a line over one field, with the threshold.

with style():
    figure, axes = plt.subplots()
    plot_phase(diagram(table, "gap"), axes)
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as Ticked
from matplotlib.axis import XAxis
from matplotlib.collections import Collection
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ufm.report.phase.axis import FIELDS, Axis
from ufm.report.phase.diagram import VERDICTS, Diagram, Quantity
from ufm.report.runs.convergence import shade_below

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Beyond this number of cells or points a panel is an image, since each is a line of SVG.
_MANY = 2500
#: Largest number of labels of named positions and whole numbers on an axis.
_LABELS = 8
_BLANK = ListedColormap(["#e8e8e8"])
_THRESHOLD: dict[str, Any] = {"color": "black", "linewidth": 1.1, "linestyle": (0, (4, 2))}


def limits(diagrams: Sequence[Diagram]) -> tuple[float, float]:
    """Smallest and largest value of diagrams that share their colours."""
    values = np.concatenate([each.value for each in diagrams])
    log = diagrams[0].quantity.log
    known = values[np.isfinite(values) & ((values > 0) | (not log))]
    nothing = (1e-16, 1e-15) if log else (0.0, 1.0)  # all are 0: below the range of any scale
    return (float(known.min()), float(known.max())) if known.size else nothing


def plot_phase(found: Diagram, axes: Axes, ends: tuple[float, float] | None = None) -> Axes:
    """Draw colours over the plane, or a line over one field; `ends` are those of `limits`."""
    low, high = ends or limits([found])
    if found.plane.y is None:
        _draw_line(found, axes)
    else:
        _draw_plane(found, axes, low, high)
        _scale(axes.yaxis, found.plane.y, axes.set_yscale)
        axes.set_ylabel(FIELDS[found.plane.y.name][0])
    _scale(axes.xaxis, found.plane.x, axes.set_xscale)
    axes.set_xlabel(found.plane.x_label)
    return axes


def _draw_plane(found: Diagram, axes: Axes, low: float, high: float) -> None:
    x, y = found.plane.x, found.plane.y
    assert y is not None  # known to the caller
    colours = _colours(found.quantity, low, high)
    # A zero has no position on a logarithmic scale: it takes the colour of the lower end.
    value = np.maximum(found.value, np.finfo(float).tiny) if found.quantity.log else found.value
    many = len(value) > _MANY
    if found.plane.is_grid:
        grid = found.plane.on_grid(value)
        # Edges in the colour of the cell hide the seams between cells.
        mesh = {"edgecolors": "face", "linewidth": 0.3, "rasterized": many}
        blank = np.ma.masked_where(~np.isnan(grid.filled(0.0)), np.zeros(grid.shape))
        if blank.count():
            axes.pcolormesh(x.edges, y.edges, blank, cmap=_BLANK, **mesh)
        image: Collection = axes.pcolormesh(
            x.edges, y.edges, np.ma.masked_invalid(grid), **mesh, **colours
        )
    else:  # decays chosen at random: points
        known = ~np.isnan(value)
        points = {"s": 9, "rasterized": many, "clip_on": False}
        image = axes.scatter(found.x[known], found.y[known], c=value[known], **points, **colours)
        axes.scatter(found.x[~known], found.y[~known], c="0.6", marker="x", lw=0.6, **points)
    axes.set(xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
    axes.set(xlim=(x.edges[0], x.edges[-1]), ylim=(y.edges[0], y.edges[-1]))
    if found.curve.size:
        axes.plot(*found.curve.T, color="white", linewidth=2.4)
        axes.plot(*found.curve.T, **_THRESHOLD)
        axes.set(xlim=(x.edges[0], x.edges[-1]), ylim=(y.edges[0], y.edges[-1]))
    if found.quantity.column != "verdict":
        _colour_bar(found, axes, image)


def _colour_bar(found: Diagram, axes: Axes, image: Collection) -> None:
    below = found.quantity.log and bool((found.value <= found.floor).any())
    bar = axes.figure.colorbar(
        image,
        ax=axes,
        aspect=16,
        pad=0.04,
        fraction=0.26,
        anchor=(0, 0.5),
        extend="min" if below else "neither",
    )
    bar.set_label(found.quantity.unit)
    if found.quantity.log:
        _decades(bar.ax.yaxis)


def _scale(ticked: Ticked, axis: Axis, set_scale: Any) -> None:
    """Set scale and ticks of an axis; named positions show their names."""
    set_scale("log" if axis.log else "linear")
    numbers = axis.numbers
    if not axis.named and not axis.discrete:
        if axis.log:
            _decades(ticked)
        else:
            ticked.set_major_locator(MaxNLocator(4))
        return
    names = dict(axis.named)
    if axis.discrete:
        ticks = [place for place in axis.levels.tolist() if place not in names]
    else:
        exponents = np.arange(np.ceil(np.log10(numbers[0])), np.log10(numbers[-1]) + 1e-9)
        ticks = (10.0**exponents).tolist()
    labels = names | {place: _power(place) if axis.log else f"{place:.6g}" for place in ticks}
    # Keep names, since no reader could guess them. Categories are all names.
    named = _thinned(sorted(names))
    shown = sorted({*named, *_thinned(ticks, _LABELS - len(named))})
    ticked.set_major_locator(FixedLocator(shown))
    ticked.set_minor_locator(NullLocator())
    ticked.set_major_formatter(FuncFormatter(lambda value, _=None: labels.get(value, "")))
    longest = max(len(line) for place in shown for line in labels[place].split("\n"))
    if isinstance(ticked, XAxis) and longest * len(shown) > 36:
        labels |= {place: word.replace("\n", " ") for place, word in labels.items()}
        ticked.set_tick_params(rotation=30)
        for label in ticked.get_ticklabels():
            label.set_horizontalalignment("right")


def _thinned(places: Sequence[float], most: int = _LABELS) -> list[float]:
    stride = -(-len(places) // max(most, 1))
    return list(places[:: max(stride, 1)])


def _decades(ticked: Ticked) -> None:
    """Put ticks at powers of ten, without TeX, because parsing it takes most of a page's time."""
    ticked.set_major_locator(LogLocator(numticks=6))
    ticked.set_minor_locator(NullLocator())
    ticked.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _: int | None = None) -> str:
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-9:
        return f"{value:.2g}"
    if 0 <= exponent <= 2:
        return f"{value:g}"
    return "10" + str(round(exponent)).translate(_SUPERSCRIPT)


def _colours(quantity: Quantity, low: float, high: float) -> dict[str, Any]:
    if quantity.column == "verdict":
        shades = ListedColormap([colour for _, colour in VERDICTS.values()])
        return {"cmap": shades, "norm": BoundaryNorm(np.arange(-0.5, len(VERDICTS)), shades.N)}
    if quantity.log:
        # Widen a narrow range to whole decades, so that it has ticks.
        decades = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high))
        ends = decades if high / low < 30 else (low, high)
        return {"cmap": "viridis_r", "norm": LogNorm(ends[0], max(ends[1], ends[0] * 10))}
    # Dark is bad, as above, if the ideal is 0.
    shades = "viridis" if quantity.mean else "viridis_r"
    return {"cmap": shades, "norm": Normalize(min(low, 0.0), high if high > 0 else 1.0)}


def _draw_line(found: Diagram, axes: Axes) -> None:
    value, x = found.value, found.plane.x
    number = ~np.isin(found.x, [place for place, _ in x.named])
    if found.quantity.column == "verdict":
        for i, (_, colour) in enumerate(VERDICTS.values()):
            here = value == i
            axes.scatter(found.x[here], np.zeros(int(here.sum())), c=colour, s=14, marker="s")
        axes.set_yticks([])
    else:
        (line,) = axes.plot(found.x[number], value[number], marker="o", markersize=2.5)
        # Nothing lies between a named position and the next, so no line joins them.
        axes.plot(found.x[~number], value[~number], "s", markersize=3, color=line.get_color())
        axes.set_ylabel(found.quantity.unit)
        _scale_ordinate(found, axes)
        if found.quantity.log:
            shade_below(axes, found.floor)
    axes.set_xscale("log" if x.log else "linear")
    axes.set_xlim(x.edges[0], x.edges[-1])
    for place in found.curve[:, 0].tolist():
        axes.axvline(place, **_THRESHOLD)


def _scale_ordinate(found: Diagram, axes: Axes) -> None:
    """Scale from 0, or over whole decades, so that rounding looks small."""
    low, high = limits([found])
    if found.quantity.log and (found.value > 0).any():
        low, high = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high))
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, max(high, 10 * low) * 1.3)
        _decades(axes.yaxis)
    else:
        low, high = min(low, 0.0), high if high > 0 else 1.0
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def verdict_handles(diagrams: Sequence[Diagram]) -> list[Patch]:
    """Legend entries for the verdicts that occur."""
    present = np.unique(np.concatenate([each.value for each in diagrams])).astype(int)
    entries = list(VERDICTS.values())
    return [Patch(color=entries[i][1], label=entries[i][0]) for i in present]
