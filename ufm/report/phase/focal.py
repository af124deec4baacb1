"""The phase diagram of the focal loss: which of the origin and the simplex ETF are minima.

The ordinate is K√n μ, for which cross-entropy collapses at 1 whatever K.

with style():
    figure, axes = plt.subplots()
    plot_phases(focal_phases(jnp.linspace(0.05, 8.0, 200), 100), axes)
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm.counterexamples.phases import FocalPhases
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN
from ufm.report._table import Table

#: Name, colour of the library's cycle and line style of each curve.
_CURVES = {
    "frame": ("ETF vanishes", "C1", "-"),
    "tie": ("tie", "C6", "--"),
    "origin": ("origin stable", "C0", "-"),
}

Numbers = Float[np.ndarray, " m"]


def phase_table(phases: FocalPhases) -> Table:
    """One row for each point of the curves, in units of μ√n."""
    names = ("gamma", "num_classes", "origin", "tie", "frame", "jumps")
    return {name: np.asarray(getattr(phases, name)) for name in names}


def plot_phases(phases: FocalPhases, axes: Axes) -> Axes:
    """The three curves over γ, or over K where that varies, and the regions between them.

    Shaded: both are minima; the darker of the two shades is where the ETF is the global one. Left
    of the dotted line the transition is continuous. Raises `ValueError` unless one of γ and K is
    constant and the other ascends.
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
    _label(axes, x, curves)
    _mark_continuous(axes, x, jumps)
    axes.set_xlabel("K" if name == "num_classes" else r"$\gamma$")
    axes.set_ylabel(r"$K\sqrt{n}\,\mu$")
    return axes


def _abscissa(phases: FocalPhases) -> tuple[str, Numbers]:
    columns = {name: np.asarray(getattr(phases, name)) for name in ("gamma", "num_classes")}
    varied = [name for name, x in columns.items() if x.ndim == 1 and np.all(np.diff(x) > 0)]
    constant = [name for name, x in columns.items() if x.ndim == 1 and np.all(x == x[:1])]
    if len(varied) != 1 or len(constant) != 1 or columns[varied[0]].size < 2:
        raise ValueError("one of gamma and num_classes has to ascend, and the other be constant")
    return varied[0], columns[varied[0]]


def _label(axes: Axes, x: Numbers, curves: dict[str, Numbers]) -> None:
    """Names of the curves at their right ends, of the regions beside them."""
    for key, (name, colour, _) in _CURVES.items():
        axes.annotate(
            name,
            (x[-1], curves[key][-1]),
            xytext=(3, 0),
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
        )
    _name_band(axes, x, curves["tie"], curves["frame"], "origin global")
    _name_band(axes, x, curves["origin"], curves["tie"], "ETF global")


def _name_band(axes: Axes, x: Numbers, low: Numbers, high: Numbers, words: str) -> None:
    """In the middle of a band near its right end, along its slope."""
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
    """A line where 1/K = p*(γ), if it is in sight."""
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


def phases_page(diagrams: Sequence[FocalPhases]) -> Page:
    """One row for each diagram."""
    figure = Figure(figsize=(COLUMN, 2.3 * len(diagrams)))
    rows = figure.subplots(len(diagrams), 1, squeeze=False)[:, 0]
    for axes, diagram in zip(rows, diagrams, strict=True):
        plot_phases(diagram, axes)
        name, _ = _abscissa(diagram)
        constant = (
            rf"$\gamma={float(diagram.gamma[0]):g}$"
            if name == "num_classes"
            else f"K={float(diagram.num_classes[0]):g}"
        )
        axes.set_title(constant, loc="right", fontsize=8)
    return figure, [phase_table(diagram) for diagram in diagrams]


def phases_files(diagrams: Sequence[FocalPhases]) -> list[tuple[str, bytes]]:
    """The files of phases."""
    caption = (
        r"Focal loss: which of the origin and the simplex ETF are minima, over "
        r"$K\sqrt n\,\mu$, $\mu=\sqrt{\lambda_W\lambda_H}$. Shaded: both are. Between the shades "
        r"their values tie. Left of the dotted line, $1/K=p^\star(\gamma)$, the transition is "
        r"continuous."
    )
    return page_files("phases", phases_page, diagrams, caption)
