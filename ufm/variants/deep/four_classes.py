r"""A lower bound for four balanced classes and one hidden layer, proven by branch and bound.

As for three classes (`three_classes`), with T = (W̃W̃ᵀ)^{1/2} and all decays e,

    f ≥ −g*(Γ) − ‖TΓ‖²/(2e) + e tr T   for every dual-feasible Γ,

which is concave in T, since the penalty of M = 3 factors is linear in it. The six coordinates are
those of T = Σ_{i<j} y_ij (e_i − e_j)(e_i − e_j)ᵀ; over a box of them the bound is least at one of
its 64 corners. Γ is the gradient at the centre, so that the bound is accurate to second order. A
minimiser is balanced: T has the eigenvalues s_i^{2/3}, so that its margins average at most
s = (tr T)^{3/2}/(K−1), and

    f ≥ φ(s) + (3/2) e tr T,   φ(s) = log(1 + (K−1)e^{−s}) + α(K−1)s/K,

where φ counts up to its minimum only. T grows with each y: a box whose upper corner is not positive
semidefinite has no T that is. By the symmetry of the classes T_11 ≥ T_22 ≥ T_33 ≥ T_44.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ufm.minimum.plane_duals import tangent_planes

_K = 4
#: e_i − e_j for all i < j, and its outer products.
_EDGES = np.eye(_K)[np.triu_indices(_K, 1)[0]] - np.eye(_K)[np.triu_indices(_K, 1)[1]]
_PAIRS = _EDGES[:, :, None] * _EDGES[:, None, :]
#: Orthonormal basis of the plane 1ᵀx = 0.
_BASIS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 2.0
#: Corners of a box seen from its centre, without their opposites; and products of their entries.
_CORNERS = np.array([[1 - 2 * (i >> j & 1) for j in range(6)] for i in range(32)], float)
_PRODUCTS = (_CORNERS[:, :, None] * _CORNERS[:, None, :]).reshape(32, 36)
#: T_ii − T_{i+1,i+1} as a function of y.
_ORDER = np.abs(_EDGES.T[:-1]) - np.abs(_EDGES.T[1:])
#: Boxes that are halved together, those of the lowest bounds first.
_BATCH = 4096
#: Relative rounding of a bound: sums of some hundred terms of the sizes added up.
_ROUNDING = 256 * float(np.finfo(float).eps)


class Boxes(NamedTuple):
    """Boxes in y, the bounds on f in them, and the axis along which each is to be halved."""

    low: Float[np.ndarray, "m 6"]
    high: Float[np.ndarray, "m 6"]
    bound: Float[np.ndarray, " m"]
    axis: Int[np.ndarray, " m"]

    def take(self, chosen: np.ndarray) -> "Boxes":
        return Boxes(*(x[chosen] for x in self))

    def halves(self) -> "Boxes":
        rows, top, bottom = np.arange(len(self.low)), self.high.copy(), self.low.copy()
        middle = 0.5 * (self.low + self.high)[rows, self.axis]
        top[rows, self.axis] = bottom[rows, self.axis] = middle
        return _joined(self._replace(high=top), self._replace(low=bottom))


def _joined(first: Boxes, second: Boxes) -> Boxes:
    return Boxes(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


class Search(NamedTuple):
    """A proven lower bound on f*, the lowest value seen, and the number of boxes that it took."""

    bound: float
    value: float
    boxes: int


def lower_bound(decay: float, alpha: float, best: float, gap: float, most: int) -> Search:
    """Prove f* ≥ best − gap for cross-entropy (alpha = 0) or label smoothing, or find how far.

    `decay` is e, `best` the value of a known point, and `most` the number of boxes.
    """
    largest = _largest_trace(best, decay)
    # −T_ij ≤ tr T/2, and T_ij ≤ tr T/4.
    ends = np.full((1, 6), -largest / 4), np.full((1, 6), largest / 2)
    open_ones = Boxes(*ends, np.zeros(1), np.zeros(1, int))
    count = 0
    while len(open_ones.low) and count < most:
        size = min(_BATCH, len(open_ones.low))
        lowest = np.argpartition(open_ones.bound, size - 1)[:size]
        if np.min(open_ones.bound[lowest]) >= best - gap:
            break
        kept = np.ones(len(open_ones.low), bool)
        kept[lowest] = False
        halves = open_ones.take(lowest).halves()
        halves = halves.take(_possible(halves, largest))
        bound, value, axis = _bounds(halves, decay, alpha)
        count, best = count + len(bound), min(best, float(np.min(value, initial=np.inf)))
        # A half is at least as high as the whole.
        bound = np.maximum(bound, halves.bound)
        open_ones = _joined(open_ones.take(kept), Boxes(halves.low, halves.high, bound, axis))
    return Search(min(best, float(np.min(open_ones.bound, initial=np.inf))), best, count)


def _largest_trace(best: float, decay: float) -> float:
    """The largest tr T of a minimiser, whose penalty is (3/2) e tr T."""
    return best / (1.5 * decay)


def _tables(y: Float[np.ndarray, "m 6"]) -> Float[np.ndarray, "m 3 3"]:
    """T in the basis of the plane."""
    return _BASIS.T @ np.einsum("me,eij->mij", y, _PAIRS) @ _BASIS


def _possible(boxes: Boxes, largest: float) -> Bool[np.ndarray, " m"]:
    """Whether a box may have a positive semidefinite T with ordered diagonal and small trace."""
    trace = 2.0 * np.sum(boxes.low, axis=1)
    most = np.maximum(_ORDER, 0) @ boxes.high.T + np.minimum(_ORDER, 0) @ boxes.low.T
    slack = 1e-12 * largest
    possible = (trace <= largest + slack) & np.all(most >= -slack, axis=0)
    possible[possible] = np.linalg.eigvalsh(_tables(boxes.high[possible]))[:, 0] >= -slack
    return possible


def _bounds(
    boxes: Boxes, decay: float, alpha: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """A lower bound on f in each box, the value of a point at its centre, and the axis to halve."""
    low, high = boxes.low, boxes.high
    y, half = 0.5 * (low + high), 0.5 * (high - low)
    sizes, axes = np.linalg.eigh(_tables(y))
    sizes = np.maximum(sizes, 0.0)  # any Γ will do
    gamma, dual, primal = tangent_planes(_BASIS @ (axes * sizes[:, None, :]), decay, alpha)
    # ‖TΓ‖² = yᵀQy.
    products = _EDGES @ gamma
    Q = (_EDGES @ _EDGES.T) * (products @ products.transpose(0, 2, 1))
    Qy = np.einsum("mef,mf->me", Q, y)
    slopes = half * (2.0 * decay - Qy / decay)
    bends = (Q * half[:, :, None] * half[:, None, :]).reshape(-1, 36) @ _PRODUCTS.T
    fall = np.max(bends / (2.0 * decay) + np.abs(slopes @ _CORNERS.T), axis=1)
    plane = dual + 2.0 * decay * np.sum(y, axis=1) - np.sum(y * Qy, axis=1) / (2.0 * decay) - fall
    reach = np.abs(y) + half
    terms = np.einsum("me,mef,mf->m", reach, np.abs(Q), reach) / decay
    plane -= _ROUNDING * (np.abs(dual) + 4.0 * decay * np.sum(reach, axis=1) + terms)
    balanced = 3.0 * decay * np.maximum(np.sum(low, axis=1), 0.0)
    balanced += _margin_loss(2.0 * np.maximum(np.sum(high, axis=1), 0.0), alpha)
    value = primal + decay * np.sum(sizes, axis=1)
    # The axis along which the bound bends most.
    axis = np.argmax(half * np.sqrt(np.einsum("mee->me", Q)), axis=1)
    return np.maximum(plane, balanced * (1.0 - _ROUNDING)), value, axis


def _margin_loss(trace: Float[np.ndarray, " m"], alpha: float) -> Float[np.ndarray, " m"]:
    """The least φ(s) for margins up to (tr T)^{3/2}/(K−1)."""
    lowest = np.log((_K - alpha * (_K - 1)) / alpha) if alpha else np.inf
    s = np.minimum(trace**1.5 / (_K - 1), lowest)
    return np.log1p((_K - 1) * np.exp(-s)) + alpha * (_K - 1) / _K * s
