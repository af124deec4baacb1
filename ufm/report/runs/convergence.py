"""Draw f − f* and ‖∇f‖ along runs from many starts, with thin runs and a thick median.

with style():
    figure, axes = plt.subplots(1, 2)
    plot_gap(verifications, axes[0])
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Problem
from ufm.model.rounding import value_floor
from ufm.report._style import MEDIAN, RUN, looks
from ufm.report._table import Table
from ufm.solvers import History, noise_floor

#: Beyond this number of gradient evaluations their axis is logarithmic, like the history; Newton's
#: runs at the default decays have up to 230.
_LONG = 300

Curve = Float[np.ndarray, "_ 2"]


@runtime_checkable
class Runs(Protocol):
    """Runs of one problem, such as a `Verification`: the history has a leading axis over starts."""

    @property
    def problem(self) -> Problem: ...
    @property
    def minimum(self) -> GlobalMinimum: ...
    @property
    def history(self) -> History: ...


def gap_curves(runs: Runs) -> list[Curve]:
    """Per start: passes over the data and f − f*, to the end of the run."""
    return _curves(runs.history, np.asarray(runs.history.value) - runs.minimum.value)


def gradient_curves(runs: Runs) -> list[Curve]:
    """Per start: passes over the data and ‖∇f‖, to the end of the run."""
    return _curves(runs.history, np.asarray(runs.history.grad_norm))


def _curves(history: History, values: Float[np.ndarray, "S T"]) -> list[Curve]:
    products, used = np.asarray(history.products), np.asarray(history.step) >= 0
    return [np.column_stack([p[u], v[u]]) for p, v, u in zip(products, values, used, strict=True)]


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median over runs at every abscissa of any run, while at least half of them continue.

    Between two evaluations a run keeps the earlier value, and after its end the last one. The
    median begins when all runs have begun.
    """
    begin = max(curve[0, 0] for curve in curves)
    end = sorted(curve[-1, 0] for curve in curves)[len(curves) // 2]
    x = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    x = x[(x >= begin) & (x <= max(begin, end))]
    held = [
        curve[np.searchsorted(curve[:, 0], x, side="right") - 1, 1].astype(float)
        for curve in curves
    ]
    return np.column_stack([x, np.median(held, axis=0)])


def convergence_table(runs: Runs) -> Table:
    """Tabulate all runs, one row for each step of the history."""
    gaps, gradients = gap_curves(runs), gradient_curves(runs)
    starts = [np.full(len(curve), i) for i, curve in enumerate(gaps)]
    steps = np.asarray(runs.history.step)
    products, above = np.concatenate(gaps).T
    return {
        "loss": runs.problem.loss.label(),
        "start": np.concatenate(starts),
        "step": steps[steps >= 0],
        "gradient_evaluations": products.astype(int),
        "f_minus_minimum": above,
        "gradient_norm": np.concatenate(gradients)[:, 1],
    }


def plot_gap(runs: Sequence[Runs], axes: Axes) -> Axes:
    """Draw f − f* along every run, or f less the best value known, one colour per loss.

    Rounding is at its bound, shaded.
    """
    curves = [(each.problem.loss.label(), gap_curves(each)) for each in runs]
    _draw(axes, curves, max(map(gap_floor, runs), default=0.0))
    proven = all(each.minimum.is_exact for each in runs)
    axes.set_ylabel(r"$f - f^\star$" if proven else r"$f - f_\mathrm{best}$")
    return axes


def plot_gradient_norm(runs: Sequence[Runs], axes: Axes) -> Axes:
    """Draw ‖∇f‖ along every run, one colour per loss; rounding is at its bound, shaded."""
    curves = [(each.problem.loss.label(), gradient_curves(each)) for each in runs]
    _draw(axes, curves, max(map(gradient_floor, runs), default=0.0))
    axes.set_ylabel(r"$\|\nabla f\|$")
    return axes


def gap_floor(runs: Runs) -> float:
    """The rounding error of f − f*; 0 if f* is unknown."""
    return float(value_floor(runs.minimum.value)) if runs.minimum.is_exact else 0.0


def gradient_floor(runs: Runs) -> float:
    """The rounding error of ‖∇f‖ at the minimiser; 0 if none is known."""
    if not runs.minimum.is_exact:
        return 0.0
    point = runs.minimum.params(jax.random.key(0))
    return float(noise_floor(runs.problem, point))


def _draw(axes: Axes, losses: Sequence[tuple[str, list[Curve]]], floor: float) -> None:
    """Draw runs and medians; the range of rounding is shaded, with its values on top."""
    for i, (label, curves) in enumerate(losses):
        look = looks(i)
        for curve in curves:
            axes.plot(*positive(curve, floor), color=look.color, **RUN)
        median = positive(median_curve(curves), floor)
        axes.plot(*median, label=label, markevery=[-1], markersize=3, **MEDIAN, **look._asdict())
    axes.set_yscale("log")
    shade_below(axes, floor)
    evaluations(axes, max(curve[-1, 0] for _, curves in losses for curve in curves))


def positive(
    curve: Curve, floor: float = 0.0
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Keep what a logarithmic axis can show of a curve; values within ±floor move to the floor."""
    x, y = curve.T
    y = np.where(np.abs(y) <= floor, floor, y)
    return x[y > 0], y[y > 0]


def shade_below(axes: Axes, floor: float) -> None:
    """Shade a logarithmic axis below the floor, if a drawn value is that low."""
    drawn = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    lowest = min((float(np.nanmin(y)) for y in drawn if np.isfinite(y).any()), default=np.inf)
    if floor > 0 and lowest <= floor:
        axes.set_ylim(bottom=floor / 10)
        axes.axhspan(floor / 10, floor, color="0.9", linewidth=0, zorder=0, label="rounding")


def legend_handles() -> list[Line2D]:
    """Legend entries for thin and thick lines, without the colour of a loss."""
    return [
        Line2D([], [], color="0.4", label="each run", **RUN),
        Line2D([], [], color="0.4", label="median", marker="o", markersize=3, **MEDIAN),
    ]


def evaluations(axes: Axes, longest: float) -> None:
    """Set the axis of passes over the data."""
    axes.set_xlabel("passes over the data")
    if longest > _LONG:
        axes.set_xscale("log")
