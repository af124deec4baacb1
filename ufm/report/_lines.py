"""Thin lines across Axes with names in the margin, pushed apart where they would overlap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ufm.report._style import THIN

#: Least distance of two names above the Axes and of two beside them, and how far from the Axes
#: they stand, in points.
_APART, _LINE, _AWAY = 8.5, 7.0, 9.0

Values = Float[np.ndarray, " _"]


class Line(NamedTuple):
    """A number and its name, maybe in TeX."""

    name: str
    value: float


def draw_lines(
    axes: Axes, lines: Sequence[Line], *, horizontal: bool = False, rotation: float = 90.0
) -> None:
    """Vertical lines with names above the Axes, or horizontal ones with names at the right."""
    ordered = sorted(lines, key=lambda line: line.value)
    exact = places(axes, np.array([line.value for line in ordered]), horizontal)
    least = _LINE if horizontal else _APART
    for line, here, place in zip(ordered, exact, pushed_apart(exact, least), strict=True):
        shift = float(place - here)
        draw = axes.axhline if horizontal else axes.axvline
        draw(line.value, color="0.6", linewidth=THIN, linestyle=":", zorder=0.5)
        axes.annotate(
            line.name,
            (1.0, line.value) if horizontal else (line.value, 1.0),
            xycoords=("axes fraction", "data") if horizontal else ("data", "axes fraction"),
            xytext=(_AWAY, shift) if horizontal else (shift, _AWAY),
            textcoords="offset points",
            rotation=0 if horizontal else rotation,
            ha="left" if horizontal else "center",
            va="center" if horizontal else "bottom",
            fontsize=6,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": THIN,
                "color": "0.6",
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0.0, 0.5) if horizontal else (0.5, 0.0),
            },
        )


def places(axes: Axes, values: Values, vertical: bool = False) -> Values:
    """Where values stand on the abscissa (or the ordinate), in points from its beginning.

    Layout comes later: Axes may still grow a little, which only makes room.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    box = axes.get_position()
    if vertical:
        size, axis, ends = box.height * float(figure.get_figheight()), axes.yaxis, axes.get_ylim()
    else:
        size, axis, ends = box.width * float(figure.get_figwidth()), axes.xaxis, axes.get_xlim()
    to_scale = axis.get_transform()
    low, high = to_scale.transform(np.array(ends))
    return (to_scale.transform(values) - low) / (high - low) * 72.0 * size


def pushed_apart(where: Values, least: float) -> Values:
    """The nearest ascending places with at least that distance: averages of those that collide."""
    groups: list[tuple[float, int]] = []  # the mean of (place − rank · least), and how many
    for rank, place in enumerate(where):
        mean, count = float(place) - rank * least, 1
        while groups and groups[-1][0] > mean:
            other, more = groups.pop()
            mean = (mean * count + other * more) / (count + more)
            count += more
        groups.append((mean, count))
    flat = [mean for mean, count in groups for _ in range(count)]
    return np.array(flat) + least * np.arange(len(where))
