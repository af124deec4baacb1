"""NC1–NC3 along one run of every loss."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ufm.report._style import looks
from ufm.report._table import Table
from ufm.report.runs.convergence import evaluations, positive
from ufm.runs.trajectory import Trajectory

#: What each metric says, as its axis is named.
METRICS = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}


def collapse_table(label: str, path: Trajectory) -> Table:
    """The metrics at every moment of a run."""
    return {
        "loss": label,
        "step": path.step,
        "gradient_evaluations": path.products,
        **{name: getattr(path.metrics, name) for name in METRICS},
    }


def plot_collapse(paths: Sequence[tuple[str, Trajectory]], metric: str, axes: Axes) -> Axes:
    """One metric ("nc1", "nc2" or "nc3") along the run of every (label, trajectory)."""
    for i, (label, path) in enumerate(paths):
        curve = np.column_stack([path.products, getattr(path.metrics, metric)])
        axes.plot(*positive(curve), label=label, markersize=2.5, **looks(i)._asdict())
    axes.set_yscale("log")
    axes.set_ylabel(METRICS[metric])
    evaluations(axes, max(float(path.products[-1]) for _, path in paths))
    return axes
