"""Draw features of three or four classes in the plane or the space into which they collapse.

K centred class means span K−1 dimensions: a plane for K = 3, a space for K = 4. The view is the
span at the end of the run, and is the same for all its moments.
"""

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ufm.collapse.metrics import class_means
from ufm.model.objective import features
from ufm.model.problem import Params, Problem
from ufm.report._style import THIN, looks
from ufm.report._table import Table
from ufm.report.runs.gram import centred_means
from ufm.runs.trajectory import Trajectory

#: Spread within classes and error of the angles, added, that is no longer visible.
_INVISIBLE = 0.03

#: Looks of the three kinds of objects, for every class.
_LOOK: dict[str, Any] = {
    "features": {"linestyle": "", "ms": 2, "mew": 0, "alpha": 0.4},
    "class means": {"linestyle": "", "ms": 4, "mew": 0.5, "mec": "black"},
    "classifier": {"linewidth": 1},
}

Basis = Float[np.ndarray, "d r"]


def can_be_seen(problem: Problem, path: Trajectory) -> bool:
    """Whether a plane or a space contains the whole frame, and the point is finite."""
    finite = all(np.isfinite(x).all() for x in (path.params.W, path.params.H))
    holds = problem.num_classes in (3, 4) and problem.dim >= problem.num_classes - 1
    return holds and finite and len(path.step) > 0


def span_of_means(problem: Problem, params: Params) -> Basis:
    """Orthonormal columns spanning the centred class means.

    The first class lies along the first axis, and the second in the plane of the first two with a
    positive second coordinate, so that the picture does not depend on the orientation.
    """
    frame, triangle = np.linalg.qr(centred_means(problem, params)[:, :-1])
    return frame * np.where(np.diagonal(triangle) < 0, -1.0, 1.0)


def view(problem: Problem, params: Params, basis: Basis) -> dict[str, Float[np.ndarray, "_ r"]]:
    """Coordinates of features, class means and classifier rows in a basis.

    Rows of W are scaled, all by one number, to the mean length of the class means in the view.
    """
    coordinates = {
        "feature": np.asarray(features(problem, params)).T @ basis,
        "class mean": np.asarray(class_means(problem, params)).T @ basis,
        "classifier": np.asarray(params.whole_classifier) @ basis,
    }
    # hypot, because squares of the entries of a diverging run overflow.
    lengths = {name: np.hypot.reduce(x, axis=1) for name, x in coordinates.items()}
    if np.any(lengths["classifier"] > 0):
        coordinates["classifier"] *= np.mean(lengths["class mean"]) / np.mean(lengths["classifier"])
    return coordinates


def moments(path: Trajectory, count: int = 4) -> list[int]:
    """Indices of up to `count` moments: the start, the end, and visibly different ones between.

    The visible size is √(trace Σ_W / trace Σ_B) + NC3. The moments between are those at which it is
    closest, in ratio, to equal factors from the start down to the limit of visibility.
    """
    metrics = path.metrics
    # NC3 is undefined with targets.
    alignment = np.nan_to_num(np.asarray(metrics.nc3))
    disorder = np.sqrt(np.asarray(metrics.within_between_ratio)) + alignment
    logs = np.log(np.maximum(np.nan_to_num(disorder, nan=1.0), 1e-300))
    levels = np.linspace(max(logs[0], np.log(_INVISIBLE)), np.log(_INVISIBLE), count)[1:-1]
    chosen = {0, len(logs) - 1}
    for level in levels:
        free = [i for i in range(len(logs)) if i not in chosen]
        chosen |= {min(free, key=lambda i: abs(logs[i] - level))} if free else set()
    return sorted(chosen)


def feature_tables(problem: Problem, path: Trajectory) -> list[Table]:
    """One table for each moment, all in the span of the class means at the end."""
    basis = span_of_means(problem, path.point(-1))
    return [feature_table(problem, path, moment, basis) for moment in moments(path)]


def feature_table(problem: Problem, path: Trajectory, moment: int, basis: Basis) -> Table:
    """Tabulate one panel; classes are numbered from 0, coordinates are x, y (and z)."""
    coordinates = view(problem, path.point(moment), basis)
    classes = np.arange(problem.num_classes)
    rows = np.arange(problem.num_outputs)
    if problem.has_targets:  # rows of W do not belong to groups: they have colours of their own
        rows += problem.num_classes
    labels = {"feature": problem.labels, "class mean": classes, "classifier": rows}
    points = np.concatenate(list(coordinates.values()))
    return {
        "loss": problem.loss.label(),
        "step": int(path.step[moment]),
        "object": np.concatenate([np.full(len(x), name) for name, x in coordinates.items()]),
        "class": np.concatenate([labels[name] for name in coordinates]),
        **dict(zip("xyz", points.T, strict=False)),
    }


def plot_features(table: Table, axes: Any) -> Axes:
    """Draw one moment: features as dots, class means as discs, rows of W as lines from the origin.

    `axes` has as many dimensions as the table has coordinates, all on one scale.
    """
    names = [name for name in "xyz" if name in table]
    points = np.column_stack([table[name] for name in names])
    for k in np.unique(table["class"]).tolist():
        dots, means, rows = (
            points[(table["object"] == name) & (table["class"] == k)].T
            for name in ("feature", "class mean", "classifier")
        )
        color, line, marker = looks(k)
        axes.plot(*dots, color=color, marker=marker, **_LOOK["features"])
        axes.plot(*np.column_stack([0 * rows, rows]), color=color, ls=line, **_LOOK["classifier"])
        axes.plot(*means, color=color, marker=marker, **_LOOK["class means"])
    reach = 1.15 * np.max(np.abs(points))  # room for a disc
    if reach > 0:
        for name in names:
            getattr(axes, f"set_{name}lim")(-reach, reach)
    axes.set_axis_off()
    if len(names) == 3:
        axes.set_box_aspect((1, 1, 1), zoom=1.6)
        _draw_edges(axes, points[table["object"] == "class mean"])
    else:
        axes.set_aspect("equal")
    return axes


def legend_handles() -> list[Line2D]:
    """Legend entries for dots, discs and lines, without the colour of a class."""
    marks = {"features": "o", "class means": "o", "classifier": ""}
    return [
        Line2D([], [], color="0.5", marker=marks[name], label=name, **look)
        for name, look in _LOOK.items()
    ]


def _draw_edges(axes: Any, corners: Float[np.ndarray, "K r"]) -> None:
    """Draw edges between class means, which make depth visible."""
    for first, second in itertools.combinations(corners, 2):
        axes.plot(*np.column_stack([first, second]), color="0.7", linewidth=THIN, zorder=0)
