"""Thin lines across Axes with names in the margin, moved apart if they would overlap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ufm.report._style import THIN

#: Least distance between names above the Axes, the same beside the Axes, and the distance of names
#: from the Axes, in points.
_APART, _LINE, _AWAY = 8.5, 7.0, 9.0

Values = Float[np.ndarray, " _"]


class Line(NamedTuple):
    """A number and its name, which may be TeX."""

    name: str
    value: float


def draw_lines(
    axes: Axes, lines: Sequence[Line], *, horizontal: bool = False, rotation: float = 90.0
) -> None:
    """Draw vertical lines with names above the Axes, or horizontal ones with names at the right."""
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
    """The positions of values on the abscissa (or ordinate), in points from its beginning.

    A later layout may enlarge the Axes a little, which only makes more room.
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
    """The nearest ascending positions with at least that distance, by pooling colliding ones."""
    groups: list[tuple[float, int]] = []  # mean of (place − rank · least), and count
    for rank, place in enumerate(where):
        mean, count = float(place) - rank * least, 1
        while groups and groups[-1][0] > mean:
            other, more = groups.pop()
            mean = (mean * count + other * more) / (count + more)
            count += more
        groups.append((mean, count))
    flat = [mean for mean, count in groups for _ in range(count)]
    return np.array(flat) + least * np.arange(len(where))
