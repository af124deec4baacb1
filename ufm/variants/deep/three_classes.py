r"""The minimum for three balanced classes without bias, proven by branch and bound.

With W̃ = W F_1 ⋯ F_L and A = W̃W̃ᵀ on the plane 1ᵀx = 0, all decays e and one sample for each class,

    f* = min_A Ψ(A) + ((M−1)/2) e tr A^{1/(M−1)},   Ψ(A) = min_H g(W̃H) + (e/2) ‖H‖²,

and Ψ is convex with the tangent planes −g*(Γ) − tr(ΓᵀAΓ)/(2e), for every dual-feasible Γ (K×K). On
a cell of A this plane plus the penalty, which is concave in the eigenvalues w₁ ≥ w₂ of A, is least
at an end of each interval; over the angle of the axes it is least where a cosine is largest. By the
symmetry of the classes that angle lies in [0, π/6]. Γ is the gradient at the centre of the cell, so
that the bound is accurate to second order (`ufm.minimum.plane_duals`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.minimum.plane_duals import tangent_planes

#: Cells are halved in at most this many rounds, and there are at most so many at once.
_ROUNDS, _MOST = 80, 400_000
#: Orthonormal basis of the plane 1ᵀx = 0, with the first axis along class 1.
_BASIS = np.array([[2.0, 0.0], [-1.0, 3**0.5], [-1.0, -(3**0.5)]]) / 6**0.5
#: The bound is charged this much for rounding, relative to log 3: sums of some ten terms.
_ROUNDING = 1e-13


class Cells(NamedTuple):
    """Boxes in (t₁, t₂, θ), with A's eigenvalues w = t^{M−1} and its first axis at the angle θ."""

    low: Float[np.ndarray, "m 3"]
    high: Float[np.ndarray, "m 3"]

    def take(self, chosen: np.ndarray) -> "Cells":
        return Cells(self.low[chosen], self.high[chosen])


class Proof(NamedTuple):
    """A proven lower bound on f*, and the number of cells that it took."""

    bound: float
    cells: int
    complete: bool


def lower_bound(
    decay: float, factors: int, alpha: float, best: float, gap: float, rank: int = 2
) -> Proof:
    """Prove f* ≥ best − gap for cross-entropy (alpha = 0) or label smoothing, or find how far.

    `decay` is e, `best` the value of a known point, and `rank` the largest that the widths allow.
    """
    # Points below `best` have no larger t₁ + t₂.
    largest = 2.0 * best / ((factors - 1) * decay)
    second = largest if rank > 1 else 0.0
    cells = Cells(np.zeros((1, 3)), np.array([[largest, second, np.pi / 6]]))
    bound, count, found = best, 0, np.zeros(0)
    for _ in range(_ROUNDS):
        found, values = _bounds(cells, decay, factors, alpha)
        best = min(best, float(np.min(values)))
        count += len(found)
        closed = found >= best - gap
        bound = min(bound, float(np.min(found[closed], initial=np.inf)))
        cells, found = cells.take(~closed), found[~closed]
        if not len(cells.low) or 2 * len(cells.low) > _MOST:
            break
        cells = _halved(cells)
    open_ones = float(np.min(found, initial=np.inf))
    return Proof(min(bound, open_ones) - _ROUNDING * (1 + best), count, not len(cells.low))


def _halved(cells: Cells) -> Cells:
    """Halve each cell along its longest side; those without w₁ ≥ w₂ are left out."""
    low, high = cells
    width = high - low
    # How much the angle moves A, in units of t.
    width = width * np.stack(
        [np.ones(len(low)), np.ones(len(low)), 2.0 * np.maximum(high[:, 0] - low[:, 1], 0.0)], 1
    )
    axis = np.argmax(width, axis=1)
    rows = np.arange(len(low))
    middle = 0.5 * (low[rows, axis] + high[rows, axis])
    first, second = high.copy(), low.copy()
    first[rows, axis] = middle
    second[rows, axis] = middle
    both = Cells(np.concatenate([low, second]), np.concatenate([first, high]))
    return both.take(both.high[:, 0] >= both.low[:, 1])


def _bounds(
    cells: Cells, decay: float, factors: int, alpha: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """A lower bound on f in each cell, and the value of a point at its centre."""
    low, high = cells
    t = 0.5 * (low + high)
    w = t[:, :2] ** (factors - 1)
    u = np.stack([np.cos(t[:, 2]), np.sin(t[:, 2])], axis=1)
    axes = np.stack([u, np.stack([-u[:, 1], u[:, 0]], axis=1)], axis=2)
    gamma, dual, primal = tangent_planes(_BASIS @ (axes * np.sqrt(w)[:, None, :]), decay, alpha)
    # tr(ΓᵀAΓ) = w₁c₁ + w₂c₂ with c₁ = (trace + size cos(2θ − 2θ₀))/2 along the first axis.
    gamma = _BASIS.T @ gamma
    square = gamma @ gamma.transpose(0, 2, 1)
    trace = square[:, 0, 0] + square[:, 1, 1]
    x, y = square[:, 0, 0] - square[:, 1, 1], 2.0 * square[:, 0, 1]
    size, turn = np.hypot(x, y), np.arctan2(y, x)
    most = _largest_cosine(2 * low[:, 2] - turn, 2 * high[:, 2] - turn)
    least = -_largest_cosine(2 * low[:, 2] - turn + np.pi, 2 * high[:, 2] - turn + np.pi)
    ends = []
    for t1 in (low[:, 0], high[:, 0]):
        for t2 in (low[:, 1], high[:, 1]):
            w1, w2 = t1 ** (factors - 1), t2 ** (factors - 1)
            cosine = np.where(w1 >= w2, most, least)
            plane = 0.5 * ((w1 + w2) * trace + (w1 - w2) * size * cosine)
            ends.append(0.5 * (factors - 1) * decay * (t1 + t2) - plane / (2.0 * decay))
    values = primal + 0.5 * (factors - 1) * decay * np.sum(t[:, :2], axis=1)
    return dual + np.min(ends, axis=0), values


def _largest_cosine(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The largest cosine on [low, high], an interval shorter than 2π."""
    inside = np.floor(high / (2 * np.pi)) > np.floor(low / (2 * np.pi))
    inside |= low % (2 * np.pi) == 0
    return np.where(inside, 1.0, np.maximum(np.cos(low), np.cos(high)))
