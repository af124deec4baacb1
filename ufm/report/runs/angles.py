"""Which frame it is: cosines of all pairs of classifier rows, and of class means as they are.

A simplex ETF has −1/(K−1) for every pair, and K orthogonal vectors have 0. The centred means of the
latter are a simplex ETF, so that NC1–NC3 and the Gram matrices of centred means are those of both.
"""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ufm.collapse.mean_geometry import cosines, pairs
from ufm.collapse.metrics import class_means
from ufm.collapse.uncentred import directed
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Params, Problem
from ufm.report._style import THIN
from ufm.report._table import Table

Vectors = Float[np.ndarray, "m d"]

#: Names of the vectors, as in a table and as titles of Axes.
NAMES = {"classifier": "rows of $W$", "class means": r"class means $\bar h_k$"}
#: Ends of the bins, one of which is centred at 0.
_BINS = np.linspace(-1.025, 1.025, 42)
_MARK: dict[str, Any] = {"color": "0.6", "linewidth": THIN, "zorder": 0.5}
#: The lines at the cosines of the two frames.
FRAMES: dict[str, dict[str, Any]] = {
    "simplex ETF": _MARK | {"linestyle": (0, (1, 1.2))},
    "orthogonal": _MARK | {"linestyle": (0, (5, 1.5))},
}
FOUND: dict[str, Any] = {"color": "C0", "alpha": 0.5, "label": "run"}
PREDICTED: dict[str, Any] = {"color": "black", "linewidth": 1.0, "label": "minimiser"}


def vectors(problem: Problem, params: Params) -> dict[str, Vectors]:
    """Rows of the classifier and uncentred class means, as rows; scaled, 0 if not finite."""
    means, rows = class_means(problem, params).T, params.whole_classifier
    return {
        name: _scaled(np.asarray(x, float)) for name, x in zip(NAMES, (rows, means), strict=True)
    }


def _scaled(rows: Vectors) -> Vectors:
    """The rows over their largest entry, because squares of large entries overflow."""
    largest = np.max(np.abs(rows), initial=0.0)
    return rows / largest if 0 < largest < np.inf else np.zeros_like(rows)


def pair_cosines(rows: Vectors) -> Float[np.ndarray, " pairs"]:
    """The cosine of each pair, first with second, first with third, …; NaN without a direction."""
    grid, known = np.full((len(rows), len(rows)), np.nan), directed(rows)
    if np.any(known):
        grid[np.ix_(known, known)] = cosines(rows[known])
    return pairs(grid)


def _both(
    problem: Problem, minimum: GlobalMinimum, params: Params | None
) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    """Name, cosines of the point and of the minimiser, NaN where there is none."""
    target = None
    if minimum.is_exact and minimum.rank:
        target = minimum.params(jax.random.key(0))
    sizes = {"classifier": problem.num_outputs, "class means": problem.num_classes}
    here, there = (None if x is None else vectors(problem, x) for x in (params, target))
    for name, size in sizes.items():
        none = np.full(size * (size - 1) // 2, np.nan)
        found, predicted = (none if x is None else pair_cosines(x[name]) for x in (here, there))
        yield name, found, predicted


def angle_tables(problem: Problem, minimum: GlobalMinimum, params: Params | None) -> list[Table]:
    """Tabulate all cosines of the point and of the minimiser; classes are numbered from 0.

    If `params` is None, the point has collapsed to the origin, and its angles are NaN.
    """
    tables = []
    for name, found, predicted in _both(problem, minimum, params):
        size = problem.num_outputs if name == "classifier" else problem.num_classes
        first, second = np.triu_indices(size, 1)
        if size:
            tables.append(
                {
                    "loss": problem.loss.label(),
                    "vectors": name,
                    "first": first,
                    "second": second,
                    "cosine": found,
                    "cosine of the minimiser": predicted,
                }
            )
    return tables


def plot_angles(
    problem: Problem, minimum: GlobalMinimum, params: Params | None, axes: Iterable[Axes]
) -> None:
    """Draw the pairs by their cosine on two Axes, with the minimiser's as an outline.

    If `params` is None, the point has collapsed to the origin.
    """
    for ax, (name, found, predicted) in zip(axes, _both(problem, minimum, params), strict=True):
        size = problem.num_outputs if name == "classifier" else problem.num_classes
        counts = [np.histogram(x[np.isfinite(x)], _BINS)[0] for x in (found, predicted)]
        if counts[0].any():
            for place, look in zip((-1.0 / (size - 1), 0.0), FRAMES.values(), strict=True):
                ax.axvline(place, **look)
            ax.stairs(counts[0], _BINS, fill=True, **FOUND)
        else:
            words = "collapsed to the origin" if params is None else "no direction"
            words = words if size else "no classifier"
            ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes)
        if counts[1].any():
            ax.stairs(counts[1], _BINS, **PREDICTED)
        ax.set(title=NAMES[name], xlim=(-1.1, 1.1), xticks=[-1, 0, 1], ylim=(0, None))
        if np.any(counts):
            ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        else:
            ax.set_yticks([])
