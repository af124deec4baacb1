r"""Second-order tests at critical points: find a direction of descent, or exclude one.

**Into an unused dimension.** If rank H < d and M = diag β + Γ has an eigenvalue λ < 0, with its
eigenvector y and a ⟂ the columns of H the direction a yᵀ has the curvature 2λ.

**Within the dimensions of H.** Up to a moderate size, all eigenvalues of the Hessian on tangent
vectors. Rotations force d r − r(r+1)/2 zeros, r = rank H; with no others and no negative ones the
point is a local minimum.

A Hessian product decides on a direction of descent, and its curvature −κ must satisfy
κ² > 16 ‖∇f‖ L, L a bound on the third derivative, as in the plain model: then the remaining
gradient cannot be its cause. The same is asked of the least positive eigenvalue. Both are numerical
statements about an exact critical point nearby.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm._support.rank import numerical_rank
from ufm.certificates.second_order import Escape
from ufm.model.params import Params
from ufm.variants.contrastive.dual_bound import Slopes, cosines
from ufm.variants.contrastive.objective import hessian_product
from ufm.variants.contrastive.pairs import pairs_of, value_of
from ufm.variants.contrastive.problem import ContrastiveProblem

#: For more columns than these an eigenvector of M would take minutes.
_MOST_COLUMNS = 2_000
#: Most tangent directions of which all curvatures are computed, in a second or two.
_MOST_DIRECTIONS = 600
#: Eigenvalues below this fraction of the next larger one are zero.
_ZERO = 1e-5


class SecondOrder(NamedTuple):
    """A direction of descent, zero if none is known, and whether there is none."""

    escape: Escape
    descends: bool = False
    is_local_minimum: bool = False


def not_sought(params: Params) -> SecondOrder:
    """Nothing is known of curvatures."""
    zero = Params(params.W, jnp.zeros_like(params.H), None)
    return SecondOrder(Escape(zero, jnp.asarray(0.0), jnp.asarray(0.0)))


def second_order(
    problem: ContrastiveProblem,
    H: Float[np.ndarray, "d N"],
    at: Slopes,
    grad: float,
    params: Params,
) -> SecondOrder:
    """Test a critical point on the sphere."""
    dim, columns = H.shape
    left, sizes, _ = np.linalg.svd(H, full_matrices=True)
    rank = numerical_rank(sizes)
    if rank < dim and columns <= _MOST_COLUMNS:
        values, vectors = np.linalg.eigh(np.diag(at.beta) + at.gamma)
        if values[0] < 0:
            B = np.outer(left[:, -1], vectors[:, 0])
            found = _descent(problem, H, B, float(2 * values[0]), grad, params)
            if found.descends:
                return found
    if columns * (dim - 1) > _MOST_DIRECTIONS:
        return not_sought(params)
    basis = _tangent_basis(H)
    values, vectors = np.linalg.eigh(basis.T @ _hessian(problem, H, at) @ basis)
    if _is_certain(problem, min(float(values[0]), 0.0), grad):
        B = (basis @ vectors[:, 0]).reshape(dim, columns)
        return _descent(problem, H, B, float(values[0]), grad, params)
    zeros = dim * rank - rank * (rank + 1) // 2
    largest_zero, least = np.abs(values[:zeros]).max(initial=0.0), values[zeros]
    isolated = least > 0 and largest_zero <= _ZERO * least
    local = bool(isolated and _is_certain(problem, float(least), grad))
    return not_sought(params)._replace(is_local_minimum=local)


def _descent(
    problem: ContrastiveProblem,
    H: Float[np.ndarray, "d N"],
    B: Float[np.ndarray, "d N"],
    predicted: float,
    grad: float,
    params: Params,
) -> SecondOrder:
    """A direction, its curvature by a Hessian product, and whether that is certainly negative."""
    B = B - H * np.sum(H * B, axis=0)
    B = B / np.linalg.norm(B)
    point, direction = (Params(params.W, jnp.asarray(x, params.H.dtype), None) for x in (H, B))
    curvature = jnp.sum(hessian_product(problem, point, direction).H * direction.H)
    descends = float(curvature) < 0 and _is_certain(problem, float(curvature), grad)
    escape = Escape(direction, curvature, jnp.asarray(predicted, curvature.dtype))
    return SecondOrder(escape, descends)


def _hessian(
    problem: ContrastiveProblem, H: Float[np.ndarray, "d N"], at: Slopes
) -> Float[np.ndarray, "dN dN"]:
    """The Hessian with multipliers, (dN, dN): Σ_r ω_r J_rᵀ(diag p − ppᵀ)J_r + 2I⊗(Γ + diag β)."""
    dim, columns = H.shape
    pairs, tau = pairs_of(problem, np, np.float64), float(problem.temperature)
    anchors = np.arange(columns) if pairs.anchors is None else pairs.anchors
    X = cosines(H)
    _, probabilities = value_of(pairs, X[anchors] / tau)
    total = np.kron(np.eye(dim), 2 * (at.gamma + np.diag(at.beta)))
    every = np.arange(columns)
    for i, weight, p in zip(anchors, pairs.weights, probabilities, strict=True):
        # z'_a = (⟨b_i, h_a⟩ + ⟨h_i, b_a⟩)/τ, a row of J_r for each a.
        J = np.zeros((columns, dim, columns))
        J[every, :, every] = H[:, i]
        J[:, :, i] += H.T
        J = J.reshape(columns, -1) / tau
        mean = p @ J
        total += weight * ((J * p[:, None]).T @ J - np.outer(mean, mean))
    return total


def _tangent_basis(H: Float[np.ndarray, "d N"]) -> Float[np.ndarray, "dN m"]:
    """Orthonormal tangent vectors, (dN, N(d−1))."""
    dim, columns = H.shape
    basis = np.zeros((dim, columns, columns, dim - 1))
    for i in range(columns):
        basis[:, i, i, :] = np.linalg.svd(H[:, i : i + 1], full_matrices=True)[0][:, 1:]
    return basis.reshape(dim * columns, -1)


def _is_certain(problem: ContrastiveProblem, curvature: float, grad: float) -> bool:
    """Whether the remaining gradient cannot change the sign of a curvature.

    Along a unit direction z = X/τ has derivatives of at most 2/τ, 4/τ and 8/τ, and the log-sum-exp
    of a row has a third one of at most their range cubed, plus three times the product of the
    ranges of the first two, plus that of the third; targets add as much as the last again.
    """
    tau = float(problem.temperature)
    third = (4 / tau) ** 3 + 3 * (4 / tau) * (8 / tau) + 32 / tau
    return bool(curvature**2 > 16 * grad * third)
