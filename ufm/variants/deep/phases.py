r"""Which structure is the best of a deep linear model, over the decay.

For balanced classes without bias everything depends on e = Λ n^{1/M} (`structures`). Where a
structure is a local minimum is computed by `local_ranges`. In closed form the simplex ETF is one
while, with q = (1 − p_k)/(K−1) and κ = (q − α/K)/ρ,

    q/K > κ (1−p)   (K ≥ 4; for CE this is ρ > K(1 − 2/M)),
    A − (1−p)κ/3 > B²/(C + 3κ),  A = (χ₁+χ₂)/6, B = (χ₁−χ₂)/2, C = 3(χ₁+χ₂)/2  (K = 3),

χ₁ = p_k q and χ₂ = q/3. At small decays this always holds, although another structure is then lower
for K ≥ 6, and for K ≥ 4 if M ≥ 4 (in scans up to K = 8; Garrod & Keating, 2025, in the limit).

    >>> phases = deep_phases(3, 3, np.array([0.17, 0.18, 0.19, 0.2]))
    >>> [phases.best_name(i) for i in range(4)]
    ['simplex ETF', '1 pair and 1 dead class', '1 pair and 1 dead class', 'origin']
    >>> [round(tie.decay, 6) for tie in phases.ties if tie.is_lowest]
    [0.173484, 0.194186]
    >>> phases.names[1], phases.is_local[1]
    ('1 pair and 1 dead class', array([ True,  True,  True,  True]))
"""

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ufm._support.pytree import pytree, static, whole_number
from ufm._support.roots import highest, root
from ufm._support.shown import Shown
from ufm.losses import CrossEntropy, LabelSmoothing, Loss
from ufm.minimum.structures import SAME, TableLoss, structures
from ufm.variants.deep.branch import Branch
from ufm.variants.deep.local_ranges import Ranges, excess, local_ranges_of_ray, positive
from ufm.variants.deep.rays import tie_with_origin

#: Decays at which phases are computed by default, as fractions of the largest tie with the origin.
_GRID = np.geomspace(1e-4, 1.1, 60)
#: Relative distance of two decays around a tie with the origin.
_BESIDE = 1e-3


class Tie(NamedTuple):
    """A decay e at which two structures have the same value; `is_lowest` if no other is below."""

    first: str
    second: str
    decay: float
    is_lowest: bool


@pytree()
class DeepPhases(Shown):
    """Values of structures over the decay e = Λ n^{1/M}, where they tie, and where they are minima.

    `values` has a row for each of `names`, the last of which is the origin; NaN where a structure
    has no minimum of its own kind. `best` is the row of the lowest value. In `local_ranges` of a
    name, between the ends of the decays, all eigenvalues of the Hessian but those of rotations are
    positive beyond rounding: the structure is a local minimum of the deep model.
    """

    decays: Float[np.ndarray, " e"]
    values: Float[np.ndarray, "m e"]
    best: Int[np.ndarray, " e"]
    is_local: Bool[np.ndarray, "m e"]
    num_classes: int = static()
    num_factors: int = static()
    names: tuple[str, ...] = static()
    ties: tuple[Tie, ...] = static()
    local_ranges: tuple[Ranges, ...] = static()

    _printed = ("num_classes", "num_factors", "ties", "local_ranges", "names", "decays", "best")

    def best_name(self, i: int) -> str:
        """The best structure at decay number i."""
        return self.names[int(self.best[i])]


def deep_phases(
    num_classes: int, num_factors: int, decays: Any = None, loss: Loss | None = None
) -> DeepPhases:
    """Compare the structured points of balanced classes without bias over the decay.

    The values are those of explicit points, hence upper bounds on f*. For K = 3 the best of them is
    proven to be the minimum by `ufm.global_minimum` at any single decay.

    Args:
        num_classes: K ≥ 3.
        num_factors: M ≥ 3, the number of factors: hidden layers plus two.
        decays: Ascending decays e = Λ n^{1/M} > 0; None covers four decades up to the origin.
        loss: `ufm.CrossEntropy()`, by default, or `ufm.LabelSmoothing`.

    Returns:
        The values, the best structure at each decay, the decays where two structures tie (between
        two of the given decays, to 1e-12), and the ranges in which each is a local minimum: ends
        to 1e-9 for structures of one parameter, and to 1e-3 of them for others.

    Raises:
        ValueError: K or M is below 3, or the decays are not ascending positive numbers.
        TypeError: The loss is another one.
    """
    K, M = whole_number("num_classes", num_classes, 3), whole_number("num_factors", num_factors, 3)
    loss = CrossEntropy() if loss is None else loss
    if not isinstance(loss, CrossEntropy | LabelSmoothing):
        raise TypeError(f"loss must be CrossEntropy() or LabelSmoothing(alpha), got {loss!r}")
    table, shapes = TableLoss(loss, K), tuple(structures(K, K))
    with_origin = [tie_with_origin(each, table, M) for each in shapes if len(each.patterns) == 1]
    grid = max(with_origin) * _GRID if decays is None else np.asarray(decays, float)
    if grid.ndim != 1 or not len(grid) or not np.all(grid > 0) or not np.all(np.diff(grid) > 0):
        raise ValueError("decays must be ascending positive numbers")
    origin = float(table(np.zeros((K, K)))[0])

    branches = [Branch(each, table, M) for each in shapes]

    def value(row: int, e: float) -> float:
        found = branches[row](e) if row < len(shapes) else None
        return (origin if row == len(shapes) else np.nan) if found is None else found.value

    def above(row: int, e: float) -> float:
        """Positive where a structure of several parameters is a local minimum of its own."""
        found = branches[row](e)
        if found is None or any(abs(value(i, e) - found.value) < SAME for i in range(row)):
            return -1.0
        return excess(found.table, found.rank, table, M, e)

    # Beyond its tie with the origin a ray soon ends: between two decays it may tie and end.
    beside = np.outer(with_origin, (1 - _BESIDE, 1 + _BESIDE)).ravel()
    every = np.unique(np.concatenate([grid, beside[(beside > grid[0]) & (beside < grid[-1])]]))
    values = np.array([[value(row, e) for e in every] for row in range(len(shapes) + 1)])
    low, high, ranges = float(grid[0]), float(grid[-1]), []
    for row, each in enumerate(shapes):
        if len(each.patterns) == 1:
            ranges.append(local_ranges_of_ray(each, table, M, low, high))
            continue
        same = np.any(np.abs(values[:row] - values[row]) < SAME, axis=0)
        values[row, same] = np.nan
        own = np.isfinite(values[row])
        heights = {e: above(row, e) if x else -1.0 for e, x in zip(every, own, strict=True)}
        # A range may lie between two of the decays, where the branch ends.
        heights |= {e: above(row, e) for e in branches[row].last() if low < e < high}
        places = np.array(sorted(heights))
        at_places = np.array([heights[e] for e in places])
        ranges.append(positive(functools.partial(above, row), places, at_places))
    ranges.append(((low, high),))
    asked = values[:, np.searchsorted(every, grid)]
    return DeepPhases(
        decays=grid,
        values=asked,
        best=np.nanargmin(np.round(asked, 13), axis=0),
        is_local=np.array([[any(x <= e <= y for x, y in each) for e in grid] for each in ranges]),
        num_classes=K,
        num_factors=M,
        names=(names := (*(each.name for each in shapes), "origin")),
        ties=tuple(_ties(values, every, names, value)),
        local_ranges=tuple(ranges),
    )


def _ties(values: np.ndarray, grid: np.ndarray, names: tuple[str, ...], value: Any) -> list[Tie]:
    found = []
    for i, j in itertools.combinations(range(len(values)), 2):
        difference = values[i] - values[j]
        change = (difference[:-1] * difference[1:] < 0) & (np.abs(difference[:-1]) > SAME)
        for k in np.flatnonzero(change):

            def apart(e: float, i: int = i, j: int = j) -> float:
                difference = value(i, e) - value(j, e)
                return 0.0 if np.isnan(difference) else difference

            e = root(apart, grid[k], grid[k + 1])
            here = value(i, e)
            if not abs(here - value(j, e)) < 1e-9:
                continue  # one of the two vanishes in between
            others = [value(row, e) for row in range(len(values)) if row not in (i, j)]
            found.append(
                Tie(names[i], names[j], e, not np.nanmin(others, initial=np.inf) < here - SAME)
            )
    return sorted(found, key=lambda tie: tie.decay)


def etf_local_limit(num_classes: int, factors: int, loss: Loss) -> float:
    """The decay e below which the simplex ETF is a local minimum without bias (see the module)."""
    K, p, alpha = num_classes, 2 / factors, float(getattr(loss, "alpha", 0.0))

    def rival(rho: Any) -> Any:
        """q."""
        return 1.0 / (np.exp(rho) + K - 1)

    def decay(rho: Any) -> Any:
        """e at which ρ is critical; the stable branch is that where it falls."""
        return (rival(rho) - alpha / K) * rho ** (1 - p)

    def excess(rho: float) -> float:
        """Positive where the curvatures of the ETF are, in units of q."""
        q = float(rival(rho))
        kappa = (q - alpha / K) / (rho * q)
        if K > 3:
            return 1.0 / K - (1 - p) * kappa
        own = 1.0 - 2.0 * q
        A, B, C = (own + 1 / 3) / 6, (own - 1 / 3) / 2, 1.5 * (own + 1 / 3)
        return A - (1 - p) * kappa / 3 - B**2 / (C + 3 * kappa)

    grid = np.geomspace(1e-3, 100.0, 2001)
    top = grid[np.argmax(decay(grid))]
    fold = highest(decay, 0.9 * top, 1.1 * top)
    if excess(fold) >= 0:
        return float(decay(fold))
    return float(decay(root(excess, fold, grid[-1])))
