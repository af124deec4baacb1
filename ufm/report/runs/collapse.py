"""Draw NC1–NC3 along one run of every loss, if they are defined and above rounding."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

from ufm.minimum.geometry_match import compare_geometry
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Problem
from ufm.report._style import looks
from ufm.report._table import Table
from ufm.report.runs.convergence import evaluations, positive, shade_below
from ufm.runs.trajectory import Trajectory

#: Labels of the axes of metrics.
METRICS = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
#: Rounding of each metric. A variance within classes below eps times that between them does not
#: change the total; NC2 and NC3 are distances of products of norm 1, rounded in sums of √d terms.
_EPS = float(np.finfo(float).eps)
FLOORS = {"nc1": _EPS, "nc2": 64 * _EPS, "nc3": 64 * _EPS}
#: The mark at which a run makes the metrics undefined.
_ORIGIN: dict[str, Any] = {"marker": "X", "linestyle": "", "markersize": 5, "zorder": 3}


def collapse_table(label: str, path: Trajectory) -> Table:
    """Tabulate the metrics at every recorded point of a run."""
    return {
        "loss": label,
        "step": path.step,
        "gradient_evaluations": path.products,
        **{name: getattr(path.metrics, name) for name in METRICS},
    }


def until_origin(problem: Problem, minimum: GlobalMinimum, path: Trajectory) -> Trajectory:
    """Replace the metrics of a run by NaN once it has collapsed to the origin."""
    if minimum.kind != "origin":
        return path
    defined = [
        not compare_geometry(problem, path.point(i), minimum).is_origin
        for i in range(len(np.asarray(path.step)))
    ]
    metrics = jax.tree.map(lambda x: np.where(defined, np.asarray(x), np.nan), path.metrics)
    return dataclasses.replace(path, metrics=metrics)


def plot_collapse(paths: Sequence[tuple[str, Trajectory]], metric: str, axes: Axes) -> Axes:
    """Draw one metric ("nc1", "nc2" or "nc3") along the run of every (label, trajectory).

    A value below rounding is at its bound, shaded. A cross marks a run that goes on to the origin.
    """
    told = False
    for i, (label, path) in enumerate(paths):
        values = np.asarray(getattr(path.metrics, metric))
        x, y = positive(np.column_stack([path.products, values]), FLOORS[metric])
        axes.plot(x, y, label=label, markersize=2.5, **looks(i)._asdict())
        if len(x) and np.isnan(values[-1]):
            words = None if told else "collapsed to the origin"
            axes.plot(x[-1:], y[-1:], color=f"C{i}", label=words, **_ORIGIN)
            told = True
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, high / 20), high)  # a whole decade has a tick
    shade_below(axes, FLOORS[metric])
    axes.set_ylabel(METRICS[metric])
    evaluations(axes, max(float(path.products[-1]) for _, path in paths))
    return axes
