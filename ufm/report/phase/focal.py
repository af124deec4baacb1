"""The phase diagram of the focal loss: whether the origin and the simplex ETF are minima.

The ordinate is K√n μ, in which the threshold of cross-entropy is 1 for every K.

with style():
    figure, axes = plt.subplots()
    plot_phases(focal_phases(jnp.linspace(0.05, 8.0, 200), 100), axes)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm.counterexamples.found import SpuriousMinimum
from ufm.counterexamples.phases import FocalPhases
from ufm.report._figure import Page, page_files
from ufm.report._lines import places, pushed_apart
from ufm.report._style import COLUMN, TWO_COLUMNS
from ufm.report._table import Table

#: Name, colour of the library's cycle and line style of each curve.
_CURVES = {
    "frame": ("ETF vanishes", "C1", "-."),
    "tie": ("tie", "C6", "--"),
    "origin": ("origin stable", "C0", "-"),
}

#: Markers of minima that are not global, by kind; hollow, so that curves are visible.
MARKS = {"origin": "s", "simplex ETF": "^", "dead classes": "o", "other": "D"}
_MARK: dict[str, Any] = {
    **{"linestyle": "", "color": "black", "markerfacecolor": "none"},
    **{"markersize": 3.5, "markeredgewidth": 0.7, "zorder": 4},
}
#: Least distance between names at the right, in points.
_LINE = 8.0

Numbers = Float[np.ndarray, " m"]


def phase_table(phases: FocalPhases) -> Table:
    """Tabulate the curves, one row for each point, in units of μ√n."""
    names = ("gamma", "num_classes", "origin", "tie", "frame", "jumps")
    return {name: np.asarray(getattr(phases, name)) for name in names}


def plot_phases(phases: FocalPhases, axes: Axes, minima: Sequence[SpuriousMinimum] = ()) -> Axes:
    """Draw the three curves over γ, or over K if that varies, and the regions between them.

    In the shaded regions both are minima; in the darker one the ETF is global. Left of the dotted
    line the transition is continuous. Of the `minima`, which are not global, those with the
    constant K, or γ, are marked. Raises `ValueError` unless one of γ and K is constant and the
    other ascends.
    """
    name, x = _abscissa(phases)
    scale = np.asarray(phases.num_classes)
    curves = {key: np.asarray(getattr(phases, key)) * scale for key in _CURVES}
    axes.fill_between(x, curves["origin"], curves["tie"], color="C0", alpha=0.30, linewidth=0)
    axes.fill_between(x, curves["tie"], curves["frame"], color="C1", alpha=0.22, linewidth=0)
    jumps = np.asarray(phases.jumps)
    for key, (_, colour, line) in _CURVES.items():
        axes.plot(x, curves[key], color=colour, linestyle=line, label=key, zorder=3)
    axes.set_xlim(x[0], x[-1])
    low, high = float(np.min(curves["origin"])), float(np.max(curves["frame"]))
    room = high - low
    axes.set_ylim(low - 0.25 * room, high + 0.3 * room)
    if name == "num_classes":
        axes.set_xscale("log")
    _mark(axes, phases, name, minima)
    _label(axes, x, curves)
    _mark_continuous(axes, x, jumps)
    axes.set_xlabel("K" if name == "num_classes" else r"$\gamma$")
    axes.set_ylabel(r"$K\sqrt{n}\,\mu$")
    return axes


def _mark(axes: Axes, phases: FocalPhases, name: str, minima: Sequence[SpuriousMinimum]) -> None:
    """Mark the minima of this plane, by kind."""
    of = {"gamma": _gamma, "num_classes": lambda each: each.problem.num_classes}
    (other,) = of.keys() - {name}
    level = float(np.asarray(getattr(phases, other))[0])
    for kind, marker in MARKS.items():
        here = [each for each in minima if _kind(each) == kind and of[other](each) == level]
        if here:
            x = [of[name](each) for each in here]
            y = [each.problem.num_classes * each.rate for each in here]
            axes.plot(x, y, label=f"local minimum: {kind}", marker=marker, **_MARK)


def _gamma(minimum: SpuriousMinimum) -> float:
    return float(minimum.problem.loss.gamma)  # pyright: ignore[reportAttributeAccessIssue]


def _kind(minimum: SpuriousMinimum) -> str:
    """The kind of a minimum, a name of `MARKS`."""
    if minimum.rank and minimum.dead_classes:
        return "dead classes"
    return minimum.kind if minimum.kind in MARKS else "other"


def _abscissa(phases: FocalPhases) -> tuple[str, Numbers]:
    columns = {name: np.asarray(getattr(phases, name)) for name in ("gamma", "num_classes")}
    varied = [name for name, x in columns.items() if x.ndim == 1 and np.all(np.diff(x) > 0)]
    constant = [name for name, x in columns.items() if x.ndim == 1 and np.all(x == x[:1])]
    if len(varied) != 1 or len(constant) != 1 or columns[varied[0]].size < 2:
        raise ValueError("one of gamma and num_classes has to ascend, and the other be constant")
    return varied[0], columns[varied[0]]


def _label(axes: Axes, x: Numbers, curves: dict[str, Numbers]) -> None:
    """Name the curves at their right ends, and the regions beside them."""
    ends = sorted(_CURVES, key=lambda key: curves[key][-1])
    if curves[ends[0]][-1] == curves[ends[-1]][-1]:  # without a jump the three curves are equal
        ends = ["origin"]
    exact = places(axes, np.array([curves[key][-1] for key in ends]), vertical=True)
    for key, here, place in zip(ends, exact, pushed_apart(exact, _LINE), strict=True):
        name, colour, _ = _CURVES[key] if len(ends) > 1 else ("continuous", "C0", "-")
        axes.annotate(
            name,
            (x[-1], curves[key][-1]),
            xytext=(3, float(place - here)),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=7,
            annotation_clip=False,
        )
    for place, words in (
        (0.97, "only the origin is a minimum"),
        (0.03, "only the ETF is a minimum"),
    ):
        axes.annotate(
            words,
            (0.98, place),
            xycoords="axes fraction",
            ha="right",
            va="top" if place > 0.5 else "bottom",
            fontsize=7,
            color="0.35",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    _name_band(axes, x, curves["tie"], curves["frame"], "origin global")
    _name_band(axes, x, curves["origin"], curves["tie"], "ETF global")


def _name_band(axes: Axes, x: Numbers, low: Numbers, high: Numbers, words: str) -> None:
    """Put a name in the middle of a band near its right end, along its slope."""
    middle = 0.5 * (low + high)
    first, at, last = (int(part * (len(x) - 1)) for part in (0.75, 0.85, 0.95))
    if not high[at] - low[at] > 0.06 * np.ptp(axes.get_ylim()):
        return
    slope = (middle[last] - middle[first]) / (x[last] - x[first])
    axes.text(
        x[at],
        middle[at],
        words,
        rotation=float(np.degrees(np.arctan(slope))),
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="center",
        fontsize=6,
        color="0.2",
    )


def _mark_continuous(axes: Axes, x: Numbers, jumps: np.ndarray) -> None:
    """Draw a line at 1/K = p*(γ), if it is in the range."""
    if np.all(jumps) or not np.any(jumps):
        return
    for i in np.flatnonzero(np.diff(jumps.astype(int))):
        place = 0.5 * (x[i] + x[i + 1])
        axes.axvline(place, color="0.5", linestyle=":", linewidth=0.7, zorder=1)
        axes.annotate(
            r"$1/K=p^\star$",
            (place, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color="0.35",
        )


def phases_page(diagrams: Sequence[FocalPhases], minima: Sequence[SpuriousMinimum] = ()) -> Page:
    """One or two diagrams in a column, or more in two columns."""
    columns = 1 if len(diagrams) <= 2 else 2
    rows = -(-len(diagrams) // columns)
    figure = Figure(figsize=(COLUMN if columns == 1 else TWO_COLUMNS, 0.3 + 2.2 * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in panels[len(diagrams) :]:
        unused.set_axis_off()
    for axes, diagram in zip(panels, diagrams, strict=False):
        plot_phases(diagram, axes, minima)
        name, _ = _abscissa(diagram)
        constant = (
            rf"$\gamma={float(diagram.gamma[0]):g}$"
            if name == "num_classes"
            else f"K={float(diagram.num_classes[0]):g}"
        )
        axes.text(0.03, 0.97, constant, va="top", transform=axes.transAxes)
    marked = {
        str(line.get_label()): line
        for axes in panels
        for line in axes.lines
        if str(line.get_label()).startswith("local minimum: ")
    }
    if marked:
        figure.legend(
            list(marked.values()), list(marked), loc="outside lower center", ncols=columns * 2
        )
    return figure, [phase_table(diagram) for diagram in diagrams]


def phases_files(
    diagrams: Sequence[FocalPhases], minima: Sequence[SpuriousMinimum] = ()
) -> list[tuple[str, bytes]]:
    """Make the files of phases; `minima` that are not global are marked."""
    caption = (
        r"Focal loss: which of the origin and the simplex ETF are minima, over "
        r"$K\sqrt n\,\mu$, $\mu=\sqrt{\lambda_W\lambda_H}$. Shaded: both are. Between the shades "
        r"their values tie. Left of the dotted line, $1/K=p^\star(\gamma)$, the transition is "
        r"continuous."
    )
    if minima:
        caption += " Marks: local minima found that are not global."
    return page_files("phases", lambda x: phases_page(x, minima), diagrams, caption)
