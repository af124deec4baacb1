"""f − f* and ‖∇f‖ along runs from many starts: every run thin, their median thick.

with style():
    figure, axes = plt.subplots(1, 2)
    plot_gap(verifications, axes[0])
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Problem
from ufm.report._style import MEDIAN, RUN, looks
from ufm.report._table import Table
from ufm.solvers import History

#: Gradient evaluations beyond which their axis is logarithmic, as the history is: Newton's runs
#: at the default decays have up to 230.
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
    """Per start: passes over the data and f − f*, as far as the run went."""
    return _curves(runs.history, np.asarray(runs.history.value) - runs.minimum.value)


def gradient_curves(runs: Runs) -> list[Curve]:
    """Per start: passes over the data and ‖∇f‖, as far as the run went."""
    return _curves(runs.history, np.asarray(runs.history.grad_norm))


def _curves(history: History, values: Float[np.ndarray, "S T"]) -> list[Curve]:
    products, used = np.asarray(history.products), np.asarray(history.step) >= 0
    return [np.column_stack([p[u], v[u]]) for p, v, u in zip(products, values, used, strict=True)]


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median over runs at every abscissa of any of them.

    Between two evaluations a run has the value of the earlier, and after its end that of the end.
    It begins where the last of the runs does.
    """
    begin = max(curve[0, 0] for curve in curves)
    x = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    x = x[x >= begin]
    held = [
        curve[np.searchsorted(curve[:, 0], x, side="right") - 1, 1].astype(float)
        for curve in curves
    ]
    return np.column_stack([x, np.median(held, axis=0)])


def convergence_table(runs: Runs) -> Table:
    """Every run, one row for each step of its history."""
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
    """f − f* along every run, one colour per loss. Where rounding puts f below f*, nothing."""
    _draw(axes, [(each.problem.loss.label(), gap_curves(each)) for each in runs])
    axes.set_ylabel(r"$f - f^\star$")
    return axes


def plot_gradient_norm(runs: Sequence[Runs], axes: Axes) -> Axes:
    """‖∇f‖ along every run, one colour per loss."""
    _draw(axes, [(each.problem.loss.label(), gradient_curves(each)) for each in runs])
    axes.set_ylabel(r"$\|\nabla f\|$")
    return axes


def _draw(axes: Axes, losses: Sequence[tuple[str, list[Curve]]]) -> None:
    for i, (label, curves) in enumerate(losses):
        look = looks(i)
        for curve in curves:
            axes.plot(*positive(curve), color=look.color, **RUN)
        axes.plot(
            *positive(median_curve(curves)), label=label, markevery=[-1], **MEDIAN, **look._asdict()
        )
    axes.set_yscale("log")
    evaluations(axes, max(curve[-1, 0] for _, curves in losses for curve in curves))


def positive(curve: Curve) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """What a logarithmic axis can show of a curve."""
    shown = curve[curve[:, 1] > 0]
    return shown[:, 0], shown[:, 1]


def evaluations(axes: Axes, longest: float) -> None:
    """The axis of passes over the data."""
    axes.set_xlabel("passes over the data")
    if longest > _LONG:
        axes.set_xscale("log")
