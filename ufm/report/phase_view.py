"""Phase diagrams drawn: colours over a plane, or a line over one field, with the threshold.

with style():
    figure, axes = plt.subplots()
    plot_phase(diagram(table, "gap"), axes)
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ufm.report.phase import FIELDS, VERDICTS, Diagram, Quantity

Values = Float[np.ndarray, " _"]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def limits(diagrams: Sequence[Diagram]) -> tuple[float, float]:
    """Smallest and largest value of diagrams that share their colours."""
    values = np.concatenate([each.value for each in diagrams])
    known = values[np.isfinite(values) & ((values > 0) | (not diagrams[0].quantity.log))]
    return (float(known.min()), float(known.max())) if known.size else (0.1, 1.0)


def plot_phase(found: Diagram, axes: Axes, ends: tuple[float, float] | None = None) -> Axes:
    """Colours over the plane, or a line over one field; `ends` (see `limits`) None: its own."""
    low, high = ends or limits([found])
    if found.y_name is None:
        _draw_line(found, axes)
    else:
        _draw_plane(found, axes, low, high)
    axes.set_xlabel(found.x_label)
    return axes


def _is_log(values: Values) -> bool:
    """Positive, over more than a decade, and no arithmetic progression."""
    unique = np.unique(values)
    if unique[0] <= 0 or unique[-1] / unique[0] < 10:
        return False
    steps = np.diff(unique)
    return bool(np.ptp(steps) > 1e-6 * steps.max()) or len(unique) == 2


def _edges(values: Values, log: bool) -> Values:
    """Ends of the cells around the grid's values."""
    places = np.log(values) if log else values
    if len(places) == 1:
        inner, first = np.zeros(0), 0.5
    else:
        inner, first = (places[1:] + places[:-1]) / 2, (places[1] - places[0]) / 2
    last = (places[-1] - places[-2]) / 2 if len(places) > 1 else first
    edges = np.concatenate([[places[0] - first], inner, [places[-1] + last]])
    return np.exp(edges) if log else edges


def _draw_plane(found: Diagram, axes: Axes, low: float, high: float) -> None:
    x_log, y_log = _is_log(found.x), _is_log(found.y)
    xs, ys = np.unique(found.x), np.unique(found.y)
    colours = _colours(found.quantity, low, high)
    if len(xs) * len(ys) == len(found.x):
        grid = found.value.reshape(len(xs), len(ys)).T
        axes.set_facecolor("#e8e8e8")
        x_edges, y_edges = _edges(xs, x_log), _edges(ys, y_log)
        # With edges of their own colour no seams show between the cells.
        image = axes.pcolormesh(
            x_edges,
            y_edges,
            np.ma.masked_invalid(grid),
            edgecolors="face",
            linewidth=0.3,
            **colours,
        )
        axes.set(xlim=(x_edges[0], x_edges[-1]), ylim=(y_edges[0], y_edges[-1]))
    else:  # drawn at random: points
        known = ~np.isnan(found.value)
        image = axes.scatter(found.x[known], found.y[known], c=found.value[known], s=9, **colours)
        axes.scatter(found.x[~known], found.y[~known], s=9, c="0.6", marker="x", linewidths=0.6)
    axes.set_xscale("log" if x_log else "linear")
    axes.set_yscale("log" if y_log else "linear")
    axes.set_ylabel(FIELDS[str(found.y_name)])
    if found.curve.size:
        ends = axes.get_xlim(), axes.get_ylim()
        axes.plot(*found.curve.T, color="white", linewidth=2.4)
        axes.plot(*found.curve.T, color="black", linewidth=1.1, linestyle=(0, (4, 2)))
        axes.set(xlim=ends[0], ylim=ends[1])
    figure = axes.figure
    for axis, log in ((axes.xaxis, x_log), (axes.yaxis, y_log)):
        if log:
            _decades(axis)
        else:
            axis.set_major_locator(MaxNLocator(5))
    if found.quantity.column != "verdict":
        bar = figure.colorbar(image, ax=axes, aspect=16, pad=0.04, fraction=0.26, anchor=(0, 0.5))
        bar.set_label(found.quantity.unit)
        if found.quantity.log:
            _decades(bar.ax.yaxis)


def _decades(axis: Axis) -> None:
    """Ticks at powers of ten, written without TeX: parsing it takes most of a page's time."""
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _: int | None = None) -> str:
    exponent = round(math.log10(value))
    if 0 <= exponent <= 2:
        return f"{value:g}"
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def _colours(quantity: Quantity, low: float, high: float) -> dict[str, Any]:
    if quantity.column == "verdict":
        shades = ListedColormap([colour for _, colour in VERDICTS.values()])
        return {"cmap": shades, "norm": BoundaryNorm(np.arange(-0.5, len(VERDICTS)), shades.N)}
    if quantity.log:
        # A narrow range has no decade for a tick: widened to whole ones.
        decades = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high))
        ends = decades if high / low < 30 else (low, high)
        return {"cmap": "viridis_r", "norm": LogNorm(ends[0], max(ends[1], ends[0] * 10))}
    return {"cmap": "viridis", "norm": Normalize(min(low, 0.0), high if high > 0 else 1.0)}


def _draw_line(found: Diagram, axes: Axes) -> None:
    value = found.value
    if found.quantity.column == "verdict":
        for i, (_, colour) in enumerate(VERDICTS.values()):
            here = value == i
            axes.scatter(found.x[here], np.zeros(int(here.sum())), c=colour, s=14, marker="s")
        axes.set_yticks([])
    else:
        axes.plot(found.x, value, marker="o", markersize=2.5)
        axes.set_ylabel(found.quantity.unit)
        if found.quantity.log and (value > 0).any():
            axes.set_yscale("log")
            _decades(axes.yaxis)
    if _is_log(found.x):
        axes.set_xscale("log")
        _decades(axes.xaxis)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    if found.curve.size:
        axes.axvline(found.curve[0, 0], color="black", linewidth=1.1, linestyle=(0, (4, 2)))


def verdict_handles(diagrams: Sequence[Diagram]) -> list[Patch]:
    """The verdicts that occur, as entries of a legend."""
    present = np.unique(np.concatenate([each.value for each in diagrams])).astype(int)
    entries = list(VERDICTS.values())
    return [Patch(color=entries[i][1], label=entries[i][0]) for i in present]
