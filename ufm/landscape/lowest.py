r"""The direction of least curvature at a critical point, in coordinates that descents preserve.

A point is rotated so that its row space is spanned by the first r axes. Directions within them and
directions into the other axes decouple (`ufm.hessian.structured.complement`). A descent along a
direction of the second kind uses one more axis and keeps the remaining ones exactly zero, so that
it ends at a point of rank at most r + 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ufm.hessian import dense_hessian, hvp
from ufm.model.evaluation import evaluated
from ufm.model.params import Params, dot, norm
from ufm.model.problem import Problem


def canonical(point: Params, rank: int) -> Params:
    """Rotate the point so that its row space is the first `rank` axes, and set others to zero."""
    stacked = np.vstack([np.asarray(point.W), np.asarray(point.H).T])
    _, _, right = np.linalg.svd(stacked, full_matrices=True)
    basis = right.T.copy()
    W, H = np.asarray(point.W) @ basis, basis.T @ np.asarray(point.H)
    W[:, rank:], H[rank:] = 0.0, 0.0
    return Params(jax.device_put(W), jax.device_put(H), point.b)


def lowest_eigenpair(problem: Problem, at: Params, rank: int) -> tuple[float, Params, float]:
    """The smallest eigenvalue of ∇²f at a canonical point, a unit eigenvector, and its residual.

    Outside the row space the eigenvector belongs to ‖G‖₂ and is in the span of (u aᵀ, a vᵀ), with a
    the axis number `rank`, so that a descent along it raises the rank by one.
    """
    inside, vector = _lowest_in_row_space(problem, at, rank)
    candidates = [(inside, vector)] if rank or problem.has_bias else []
    if rank < problem.dim:
        candidates.append(_lowest_outside(problem, at, rank))
    value, direction = min(candidates, key=lambda pair: pair[0])
    image = hvp(problem, at, direction)
    exact = float(dot(direction, image))
    residual = jax.tree.map(lambda y, x: y - exact * x, image, direction)
    return exact, direction, float(norm(residual)) + abs(exact - value)


def _lowest_in_row_space(problem: Problem, at: Params, rank: int) -> tuple[float, Params]:
    (K, d), N = at.W.shape, at.H.shape[1]
    kept = [
        np.broadcast_to(np.arange(d) < rank, (K, d)).ravel(),
        np.broadcast_to((np.arange(d) < rank)[:, None], (d, N)).ravel(),
    ]
    if at.b is not None:
        kept.append(np.ones(K, bool))
    mask = np.concatenate(kept)
    H = dense_hessian(problem, at)[np.ix_(mask, mask)]
    values, vectors = np.linalg.eigh(H) if H.size else (np.array([np.inf]), np.zeros((0, 1)))
    flat = np.zeros(len(mask))
    flat[mask] = vectors[:, 0]
    W, Hs, b = np.split(flat, (K * d, d * (K + N)))
    direction = Params(
        jnp.asarray(W.reshape(K, d)),
        jnp.asarray(Hs.reshape(d, N)),
        None if at.b is None else jnp.asarray(b),
    )
    return float(values[0]), direction


def _lowest_outside(problem: Problem, at: Params, rank: int) -> tuple[float, Params]:
    """The eigenvector (x u aᵀ, y a vᵀ) of [[λ_W, ‖G‖₂], [‖G‖₂, λ_H]]."""
    G = evaluated(problem, at).G
    left, sizes, right = np.linalg.svd(np.asarray(G), full_matrices=False)
    sigma = float(sizes[0])
    form = np.array([[float(problem.lam_w), sigma], [sigma, float(problem.lam_h)]])
    values, vectors = np.linalg.eigh(form)
    x, y = vectors[:, 0]
    axis = np.eye(problem.dim)[rank]
    return float(values[0]), Params(
        jnp.asarray(x * np.outer(left[:, 0], axis)),
        jnp.asarray(y * np.outer(axis, right[0])),
        None if at.b is None else jnp.zeros_like(at.b),
    )
