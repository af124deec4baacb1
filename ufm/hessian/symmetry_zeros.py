r"""Directions along which f is constant by symmetry, and the zero eigenvalues that they force.

f(WQ, QᵀH, b) = f(W, H, b) for every rotation Q, so with X = [W; Hᵀ] = UΣQᵀ (K+N rows, d columns)
the tangent space of the orbit is {XΩ : Ωᵀ = −Ω}, and in the basis Q its elements

    t_ab = (σ_a u_a q_bᵀ − σ_b u_b q_aᵀ) / √(σ_a² + σ_b²),   a < b, a ≤ r = rank X

are orthonormal: r(d−r) + r(r−1)/2 of them. Differentiating ∇f(XQ) = ∇f(X)Q gives
∇²f[XΩ] = ∇f(X) Ω, so that along unit tangents ‖∇²f t‖ ≤ √2 ‖∇f‖/σ_r, which is zero at critical
points. With a free bias and a shift-invariant loss, b + c1 is another direction, exactly flat.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ufm._support.rank import numerical_rank
from ufm.hessian.spectrum_result import Gauge
from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Rotations count as zeros of ∇²f if ‖∇²f t‖ is at most this fraction of λ_W + λ_H along them.
_FLAT = 1e-5


class Frame(NamedTuple):
    """[W; Hᵀ] = U diag(σ) Qᵀ, truncated at the rank: U (K+N, r), σ (r,), Q (d, r)."""

    left: Any
    sizes: Any
    right: Any

    @property
    def rank(self) -> int:
        return len(self.sizes)


def frame(params: Params) -> Frame:
    """The singular value decomposition of [W; Hᵀ], truncated at the rank of the point."""
    stacked = np.vstack([np.asarray(params.W), np.asarray(params.H).T])
    if not np.all(np.isfinite(stacked)):
        stacked = np.zeros_like(stacked)
    left, sizes, right = np.linalg.svd(stacked, full_matrices=False)
    rank = numerical_rank(sizes)
    return Frame(left[:, :rank], sizes[:rank], right[:rank].T)


def rank_of(params: Params) -> int:
    """The numerical rank of [W; Hᵀ]."""
    return frame(params).rank


def rotation_dimension(problem: Problem, params: Params) -> int:
    """Dimension of the orbit: the number of zeros that symmetry forces at critical points."""
    return orbit_dimension(problem, frame(params).rank)


def orbit_dimension(problem: Problem, rank: int, dim: int | None = None) -> int:
    """r(d−r) + r(r−1)/2, plus one if f does not depend on the mean of a free bias.

    d is the dimension of the problem, or the number of dimensions that rotations turn.
    """
    dim = problem.dim if dim is None else dim
    return rank * (dim - rank) + rank * (rank - 1) // 2 + int(shift_is_free(problem))


def shift_is_free(problem: Problem) -> bool:
    """Whether f is invariant under b → b + c1."""
    free = problem.has_bias and float(problem.lam_b or 0.0) == 0.0
    return free and problem.loss.shift_invariant


def gauge(problem: Problem, params: Params, gradient: Params) -> Gauge:
    """The orbit's dimension, and a bound on ‖∇²f t‖ over its unit tangents t."""
    found = frame(params)
    stacked = np.vstack([np.asarray(gradient.W), np.asarray(gradient.H).T])
    residual = 0.0
    if found.rank:
        residual = 2**0.5 * float(np.linalg.norm(stacked, 2)) / float(found.sizes[-1])
    return gauge_of(problem, found.rank, residual)


def gauge_of(problem: Problem, rank: int, residual: float) -> Gauge:
    """Whether the orbit is as flat as at a critical point, relative to the decays."""
    flat = residual <= _FLAT * float(problem.lam_w + problem.lam_h)
    return Gauge(orbit_dimension(problem, rank), residual, flat)


def without_gauge(frame: Frame, free_shift: Bool[Array, ""], direction: Params) -> Params:
    """The part of a direction that is orthogonal to the orbit: (I − T Tᵀ)(A, B, c).

    With Y = [A; Bᵀ] and M = diag(σ) UᵀY, the coefficient along t_ab is that of the skew part of MQ,
    divided by √(σ_a² + σ_b²). Along rotations out of the row space it is that of M(I − QQᵀ),
    divided by σ_a. No matrix of the size of T is formed.
    """
    c = direction.b
    if c is not None:
        c = c - jnp.where(free_shift, jnp.mean(c), 0.0)
    if not frame.rank:
        return Params(direction.W, direction.H, c)
    U, sizes, Q = (jnp.asarray(x) for x in frame)
    classes = direction.W.shape[0]
    Y = jnp.concatenate([direction.W, direction.H.T])
    inner = sizes[:, None] * matmul(U.T, Y)
    within = matmul(inner, Q)
    skew = (within - within.T) / (sizes[:, None] ** 2 + sizes[None, :] ** 2)
    outward = (inner - matmul(within, Q.T)) / sizes[:, None] ** 2
    Y = Y - matmul(U * sizes[None, :], matmul(skew, Q.T) + outward)
    return Params(Y[:classes], Y[classes:].T, c)
