r"""A proven lower bound where d = 1 or 2 is too narrow for a simplex ETF, by branch and bound.

For balanced classes without bias the problem is that of one sample in each class with both decays
λ = μ√n. No bound that convexifies the penalty sees d, but on a box of classifiers W (K×d) one does:
with the tangent plane of min_H f at the centre W₀ (`ufm.minimum.plane_duals`),

    f ≥ −g*(Γ) + (λ/2)‖W‖² − ‖WᵀΓ‖²/(2λ),

a quadratic whose gradient at W₀ is that of f. It is bounded over the box entry by entry, so that
the bound is accurate to second order. Without loss of generality W has the column sums 0, its first
row is the longest one and points along the first axis, the others are ordered along the last axis,
and for d = 2 the second is as far up as the last is down. Points below a known value have
λ‖W‖² ≤ f.

    >>> problem = Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=1, dim=2,
    ...                            lam_w=5e-2, lam_h=5e-2, lam_b=None)
    >>> found = narrow_bound(problem, gap=1e-6)
    >>> found.closed, round(float(found.lower_bound), 5)
    (True, 0.65016)
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from ufm._support.pytree import pytree, whole_number
from ufm._support.shown import Shown
from ufm.collapse.symmetric_solution import proven_lower_bound
from ufm.losses import CrossEntropy, LabelSmoothing
from ufm.minimum.plane_duals import tangent_planes
from ufm.minimum.structures import TableLoss, best_structure
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: Boxes whose bounds are computed together.
_CHUNK = 16_384
#: Relative rounding of a bound: sums of some hundred terms of the sizes added up.
_ROUNDING = 256 * float(np.finfo(float).eps)


@pytree()
class NarrowBound(Shown):
    """A proven lower bound on f*, and the lowest value of a point that was seen on the way.

    `closed` says that the bound is within the gap asked for; otherwise `boxes` were not enough.
    """

    lower_bound: float
    value: float
    closed: bool
    boxes: int


def is_narrow(problem: Problem) -> bool:
    """Whether there is such a bound: balanced CE or LS without bias, and d = 1 or 2 < K − 1."""
    return (
        problem.variant is None
        and isinstance(problem.loss, CrossEntropy | LabelSmoothing)
        and problem.per_class is not None
        and not (problem.has_targets or problem.has_bias)
        and min(problem.dim, 3) < min(problem.num_classes - 1, 3)
    )


@by_variant
def narrow_bound(problem: Problem, gap: float = 1e-6, max_boxes: int = 1_000_000) -> NarrowBound:
    """Prove a lower bound on f* in one or two dimensions, by branch and bound.

    With K = 4, d = 2 and μ√n = 0.05 a gap of 1e-9 takes 2 s, and at 0.005 one of 1e-5 takes 25 s.
    With one hidden layer and K = 4 there is such a bound in all dimensions, but a gap of 1 % takes
    half a minute.

    Args:
        problem: Balanced classes, cross-entropy or label smoothing, no bias, and d = 1 or 2 below
            K − 1.
        gap: The difference between a value and the bound at which the search ends.
        max_boxes: The search also ends with this many boxes; the bound is proven all the same.

    Returns:
        The bound, at least that of a simplex ETF in more dimensions, the lowest value seen, and
        whether the gap was reached.

    Raises:
        ValueError: The problem is another one, a batch or without decays, or `gap` is not positive.
    """
    if not is_narrow(problem):
        raise ValueError(
            "the bound is for balanced classes, cross-entropy or label smoothing, no bias, and "
            f"dim=1 or 2 below num_classes - 1; got {problem}"
        )
    max_boxes = check_budget(gap, max_boxes)
    n, mu = problem.per_class or 1, problem.mu()
    if np.ndim(mu) or not float(mu) > 0:
        raise ValueError("the bound is for one problem with positive decays, not for a batch")
    decay, alpha = float(mu) * n**0.5, float(getattr(problem.loss, "alpha", 0.0))
    return _proven(problem, decay, alpha, gap, max_boxes)


def check_budget(gap: float, max_boxes: int) -> int:
    """The number of boxes; raises `ValueError` if it or the gap is not positive."""
    if not gap > 0:
        raise ValueError(f"gap must be positive, got {gap}")
    return whole_number("max_boxes", max_boxes)


def _proven(
    problem: Problem, decay: float, alpha: float, gap: float, max_boxes: int
) -> NarrowBound:
    K, loss = problem.num_classes, TableLoss(problem.loss, problem.num_classes)
    known = best_structure(K, problem.dim, loss, 2, decay)
    best = float(loss(np.zeros((K, K)))[0]) if known is None else known.value
    place, radius = _placement(K, problem.dim), (best / decay) ** 0.5
    low = np.full((1, place.shape[-1]), -radius)
    low[0, 0] = 0.0
    high, floor, bound, count = np.full_like(low, radius), np.full(1, -np.inf), np.inf, 0
    while len(low) and count + len(low) <= max_boxes:
        parts = [
            _bounds(low[i : i + _CHUNK], high[i : i + _CHUNK], place, decay, alpha)
            for i in range(0, len(low), _CHUNK)
        ]
        found, values, axis = map(np.concatenate, zip(*parts, strict=True))
        best, count = min(best, float(np.min(values))), count + len(found)
        closed = found >= best - gap
        bound = min(bound, float(np.min(found[closed], initial=np.inf)))
        low, high = _halves(low[~closed], high[~closed], axis[~closed])
        kept = _possible(low, high, place, radius)
        # A half is at least as high as the whole.
        low, high, floor = low[kept], high[kept], np.tile(found[~closed], 2)[kept]
    bound = min(bound, float(np.min(floor, initial=np.inf)))
    bound = max(bound, proven_lower_bound(problem)[0])  # that of all dimensions
    return NarrowBound(bound, best, bound >= best - gap, count)


def _halves(low: np.ndarray, high: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of each box along its axis."""
    rows, top, bottom = np.arange(len(low)), high.copy(), low.copy()
    top[rows, axis] = bottom[rows, axis] = 0.5 * (low[rows, axis] + high[rows, axis])
    return np.concatenate([low, bottom]), np.concatenate([top, high])


def _placement(num_classes: int, dim: int) -> Float[np.ndarray, "K 2 P"]:
    """W = place · x: the rows but the last are free, the first one in its first entry only."""
    free = [(k, c) for k in range(num_classes - 1) for c in range(dim) if k or not c]
    place = np.zeros((num_classes, 2, len(free)))
    for i, (k, c) in enumerate(free):
        place[k, c, i], place[-1, c, i] = 1.0, -1.0
    return place


def _possible(
    low: np.ndarray, high: np.ndarray, place: np.ndarray, radius: float
) -> Bool[np.ndarray, " m"]:
    """Whether a box can have a classifier of the order and size of the module."""
    centre, width = place @ (0.5 * (low + high)).T, np.abs(place) @ (0.5 * (high - low)).T
    slack = 1e-12 * radius
    below, above = centre - width - slack, centre + width + slack
    least = np.maximum(0.0, np.maximum(below, -above)) ** 2
    possible = np.all(np.sum(least, axis=1) <= (high[:, 0] + slack) ** 2, axis=0)
    possible &= np.sum(least, axis=(0, 1)) <= (radius + slack) ** 2
    last = int(np.any(place[:, 1]))
    possible &= np.all(above[1:-1, last] >= below[2:, last], axis=0)
    if last:
        possible &= above[1, 1] + above[-1, 1] >= 0
    return possible


def _bounds(
    low: np.ndarray, high: np.ndarray, place: np.ndarray, decay: float, alpha: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """A lower bound on f in each box, the value at its centre, and the axis to halve."""
    centre, width = 0.5 * (low + high), 0.5 * (high - low)
    W = np.moveaxis(place @ centre.T, -1, 0)
    gamma, dual, primal = tangent_planes(W, decay, alpha)
    form = 0.5 * (decay * np.eye(len(place)) - gamma @ gamma.transpose(0, 2, 1) / decay)
    slope = 2.0 * np.einsum("mkc,kcp->mp", form @ W, place)
    kept = 0.5 * decay * np.sum(W**2, axis=(1, 2))
    level, size = np.sum(W * (form @ W), axis=(1, 2)), np.abs(dual) + 2.0 * kept
    # In the parameters: squares of one entry exactly, products of two by their largest size.
    within = sum(place[:, c].T @ form @ place[:, c] for c in range(2))
    square = np.einsum("mpp->mp", within).copy()
    across = np.abs(within)
    across[:, *np.diag_indices(across.shape[-1])] = 0.0
    cross = np.einsum("mp,mpq->mq", width, across) * width
    steep, bent = np.abs(slope), np.where(square > 0, square, 1.0)
    inside = (square > 0) & (steep < 2.0 * bent * width)
    down = np.where(inside, steep**2 / (4.0 * bent), steep * width - square * width**2)
    fall = down + cross
    total = np.sum(fall, axis=1)
    size = size + np.abs(level) + np.abs(total)
    return dual + level - total - _ROUNDING * size, primal + kept, np.argmax(fall, axis=1)
