r"""Draw the runs of a sweep across the collapse threshold, over the decay, on top of the theory.

The minimum is a frame of size ρ* > 0 below the threshold, and the origin at and above it. There ρ*
reaches 0 or, under the focal loss with many classes, jumps. The theory is `global_minimum`, if
exact, and the scalars of the two competing critical points, the origin and the frame.

    threshold_files(crossings(store.table()))
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ufm.collapse.origin import origin
from ufm.collapse.symmetric_solution import collapse_threshold, symmetric_frame
from ufm.minimum.global_minimum import global_minimum
from ufm.model.objective import objective
from ufm.model.problem import Problem
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN, THIN, TWO_COLUMNS
from ufm.report._table import Table
from ufm.report.runs.captions import OBJECTIVE

Values = Float[np.ndarray, " _"]

#: Number of decays of the theory, and distances from the threshold on both sides.
_DENSE, _NEAR = 41, np.geomspace(1e-9, 0.1, 17)
#: Smallest number of decays for a curve.
_FEWEST = 3
#: Largest number of losses side by side.
_MOST = 4
_THRESHOLD: dict[str, Any] = {"color": "0.6", "linewidth": THIN, "linestyle": ":", "zorder": 0.5}
_THEORY: dict[str, Any] = {"color": "C0", "label": "global minimum, theory"}
_ORIGIN: dict[str, Any] = {"color": "C1", "linestyle": (0, (5, 1.5)), "label": "origin, theory"}
_FRAME: dict[str, Any] = {"color": "C3", "linestyle": (0, (1, 1.2)), "label": "ETF, theory"}
_SPURIOUS: dict[str, Any] = {"color": "C2", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": THIN}
_RUN = {"linestyle": "", "color": "black", "markersize": 3, "markeredgewidth": THIN}
#: Looks of runs that are, and are not, proven global minima.
_MARKS: dict[bool, dict[str, Any]] = {
    True: _RUN | {"marker": "o", "label": "run, proven global minimum"},
    False: _RUN | {"marker": "s", "markerfacecolor": "none", "label": "run, not proven"},
}
CAPTION = (
    r"Through the collapse threshold $\mu_c$: the size $\rho$ of the solution, which is its mean "
    r"margin, and its height $f-f^\star$ above the global minimum, against the decay. Lines: "
    r"theory, where $f^\star$ is proven; beside the minimum the origin, below the threshold, and "
    r"the simplex ETF or other frame where it is a critical point beyond. Thin, with features "
    r"$H\ge0$ and no bias: points that do not see $j$ of the classes, "
    r"$f^\star+\frac jK(f(0)-f^\star)$. Marks: runs from random "
    rf"starts. Grey: below what rounding leaves of $f-f^\star$, runs there stand at its edge. "
    rf"{OBJECTIVE}."
)


@dataclasses.dataclass(frozen=True)
class Crossing:
    """Runs of one loss over μ/μ_c, and theory on its own decays.

    `height` is f − f* of a run, `floor` its rounding error, and `proven` whether the run is a
    proven global minimum. `frame` and `beginning` are f − f* at the frame and at the origin, NaN
    without such a point or an exact f*. `unseen` are the heights of points that do not see one
    class, two, …, none where classes do not decouple.
    """

    label: str
    decay: Values
    rho: Values
    height: Values
    floor: Values
    proven: Bool[np.ndarray, " _"]
    dense: Values
    minimum: Values
    frame: Values
    beginning: Values
    unseen: tuple[Values, ...]


def crossings(table: dict[str, np.ndarray]) -> list[Crossing]:
    """Make one for each loss whose problems differ only in the decay, from below its threshold."""
    found = []
    if "lam_hidden" in table:  # its threshold is for another mean of the decays
        return found
    fixed = [name for name in decisive(table) if name not in ("lam_w", "lam_h")]
    for loss in dict.fromkeys(table["loss"].tolist()):
        rows = {name: column[table["loss"] == loss] for name, column in table.items()}
        one = all(len(np.unique(rows[name])) == 1 for name in fixed)
        decay = rows["mu"] / rows["threshold"]
        if one and len(np.unique(decay)) >= _FEWEST and decay.min() < 1 < decay.max():
            found.append(_crossing(rows, decay))
    return found


def _crossing(rows: dict[str, np.ndarray], decay: Values) -> Crossing:
    problem = ProblemSpec.from_row(
        {name: rows[name][0].item() for name in decisive(rows)}
    ).problem()
    exact = np.where(rows["minimum_exact"] == 1, rows["minimum"], np.nan)
    dense = _dense(decay)
    beginning = float(objective(problem, origin(problem)))  # for every decay
    rho, value, frame = np.array([_theory(problem, x) for x in dense]).T
    return Crossing(
        label=problem.loss.label(),
        decay=decay,
        rho=rows["rho"],
        height=rows["value"] - exact,
        floor=rows["rounding"],
        proven=rows["verdict"] == "GLOBAL_MINIMUM",
        dense=dense,
        minimum=rho,
        frame=frame - value,
        beginning=beginning - value,
        unseen=tuple(share * (beginning - value) for share in _unseen_shares(problem)),
    )


def _unseen_shares(problem: Problem) -> list[float]:
    """j/K, j < K, if features are non-negative and classes of one size decouple."""
    K = problem.num_classes
    decouple = problem.per_class is not None and problem.loss.contrastive and not problem.has_bias
    return [j / K for j in range(1, K)] if problem.features is not None and decouple else []


def _dense(decay: Values) -> Values:
    """Make decays over the range, and close to the threshold on both sides."""
    low, high = float(decay.min()), float(decay.max())
    places = np.unique([*np.linspace(low, high, _DENSE), *(1.0 - _NEAR), *(1.0 + _NEAR)])
    return places[(places >= low) & (places <= high) & (places != 1.0)]


def _theory(problem: Problem, decay: float) -> tuple[float, float, float]:
    """ρ*, f*, and f at the frame, at a multiple of the threshold."""
    mu = decay * float(collapse_threshold(problem).mu)
    here = dataclasses.replace(problem, lam_w=mu, lam_h=mu)
    minimum = global_minimum(here)
    if not minimum.is_exact:
        return np.nan, np.nan, np.nan
    frame = float(symmetric_frame(here).value) if here.variant is None else np.nan
    return minimum.rho, minimum.value, frame


def plot_size(each: Crossing, axes: Axes) -> Axes:
    """Draw ρ* as a line, with a gap at a jump, and ρ of every run."""
    for side in (each.dense < 1, each.dense > 1):
        axes.plot(each.dense[side], each.minimum[side], **_THEORY)
    for proven, look in _MARKS.items():
        here = each.proven == proven
        axes.plot(each.decay[here], each.rho[here], **look)
    axes.axvline(1.0, **_THRESHOLD)
    axes.set_ylabel(r"$\rho$")
    return axes


def plot_height(each: Crossing, axes: Axes, floor: float) -> Axes:
    """Draw f − f* of every run, at least `floor`, and of the competing points."""
    for values, side, look in (
        (each.beginning, each.dense < 1, _ORIGIN),
        (each.frame, each.dense > 1, _FRAME),
    ):
        shown = side & (values > floor)
        axes.plot(each.dense[shown], values[shown], **look)
    for values in each.unseen:
        shown = (each.dense < 1) & (values > floor)
        axes.plot(each.dense[shown], values[shown], **_SPURIOUS)
    known = np.isfinite(each.height)
    for proven, look in _MARKS.items():
        here = known & (each.proven == proven)
        axes.plot(each.decay[here], np.maximum(each.height[here], floor), **look)
    axes.axhspan(0.03 * floor, floor, color="0.93", linewidth=0, zorder=0)
    axes.axvline(1.0, **_THRESHOLD)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.03 * floor)
    axes.set_ylabel(r"$f-f^\star$")
    axes.set_xlabel(r"$\sqrt{\lambda_W\lambda_H}\,/\,\mu_c$")
    return axes


def threshold_page(found: Sequence[Crossing]) -> Page:
    """A column for each loss: ρ above, f − f* below."""
    shown = found[:_MOST]
    figure = Figure(figsize=(COLUMN if len(shown) == 1 else TWO_COLUMNS, 3.6))
    above, below = figure.subplots(2, len(shown), sharex="col", squeeze=False)
    floor = max(float(np.max(each.floor)) for each in shown)
    for i, each in enumerate(shown):
        size, height = plot_size(each, above[i]), plot_height(each, below[i], floor)
        size.set_title(each.label, pad=3)
        if i:
            size.set_ylabel("")
            height.set(ylabel="", ylim=below[0].get_ylim(), yticklabels=[])
    figure.legend(
        handles=_handles(shown), loc="outside upper center", ncols=2 if len(shown) == 1 else 3
    )
    return figure, [table for each in shown for table in threshold_tables(each)]


def threshold_tables(each: Crossing) -> list[Table]:
    """Tabulate the drawn data: the runs, then theory."""
    names = ("decay", "rho", "height", "floor", "proven", "frame", "origin")
    runs = (
        each.decay,
        each.rho,
        each.height,
        each.floor,
        each.proven.astype(float),
        np.nan,
        np.nan,
    )
    theory = (each.dense, each.minimum, 0.0, np.nan, np.nan, each.frame, each.beginning)
    return [
        {"loss": each.label, "what": what, **dict(zip(names, columns, strict=True))}
        for what, columns in (("run", runs), ("theory", theory))
    ]


def threshold_files(found: Sequence[Crossing]) -> list[tuple[str, bytes]]:
    """Make the files of collapse-threshold."""
    return page_files("collapse-threshold", threshold_page, found, CAPTION)


def _handles(shown: Sequence[Crossing]) -> list[Line2D]:
    """Legend entries for drawn elements only."""
    looks = [_THEORY, *(look for proven, look in _MARKS.items() if _any(shown, proven)), _ORIGIN]
    frame = any(np.any(each.frame[each.dense > 1] > np.max(each.floor)) for each in shown)
    looks += [_FRAME] if frame else []
    looks += [_SPURIOUS | {"label": "unseen classes"}] if any(x.unseen for x in shown) else []
    return [Line2D([], [], **look) for look in looks]


def _any(shown: Sequence[Crossing], proven: bool) -> bool:
    return any(np.any(each.proven == proven) for each in shown)
