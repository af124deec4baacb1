r"""The Hessian on the tangent space as a matrix, and what its eigenvalues decide.

    ∇²f + diag(a) ⊗ I on W + I ⊗ diag(β) on H

on vectors orthogonal to the groups with an active bound (`ufm.variants.norms.geometry`), in the
order W row by row, H row by row, b.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm._support.threads import one_blas_thread
from ufm.hessian.products.columns import host_point
from ufm.hessian.products.dense import hessian_at
from ufm.hessian.symmetry_zeros import rotation_dimension
from ufm.model.constraints import Fixed
from ufm.model.problem import Params, Problem
from ufm.variants.norms.geometry import local_point
from ufm.variants.norms.sets import Given, sets

#: Largest Hessian whose eigenvalues decide on a point: a second of LAPACK.
_LARGEST = 1_200


@one_blas_thread()
def tangent_hessian(
    problem: Problem, params: Params, part: str = "all"
) -> tuple[Float[np.ndarray, "P P"], Float[np.ndarray, "P q"]]:
    """The Hessian with multipliers projected to the tangent space, and unit normals as columns."""
    _, _, local = local_point(problem, params)
    A = hessian_at(host_point(problem, params), part)
    W, H = np.asarray(params.W), np.asarray(params.H)
    if part in ("all", "decay"):
        of_w, of_h = (np.broadcast_to(np.asarray(x), y.shape).ravel() for x, y in
                      ((local.a, W), (local.beta, H)))  # fmt: skip
        A = A + np.diag(np.pad(np.concatenate([of_w, of_h]), (0, len(A) - W.size - H.size)))
    normals = _normals(problem, params, local.active)
    A -= normals @ (normals.T @ A)
    return A - (A @ normals) @ normals.T, normals


def _normals(problem: Problem, params: Params, active: Any) -> Float[np.ndarray, "P q"]:
    """Unit vectors that span the normal space of the active groups."""
    both, columns = sets(problem, params.W.dtype), []
    for set_, x, on in zip(both, (params.W, params.H), active, strict=True):
        x, on = np.asarray(x), np.asarray(on)
        groups = np.cumsum(on).reshape(on.shape) * on
        if isinstance(set_, Given):  # every entry by itself
            groups, x = 1 + np.arange(x.size).reshape(x.shape), np.ones_like(x)
        groups = np.broadcast_to(groups, x.shape).ravel()
        chosen = np.flatnonzero(groups)
        found = np.zeros((x.size, int(groups.max())), x.dtype)
        found[chosen, groups[chosen] - 1] = x.ravel()[chosen]
        columns.append(found / np.linalg.norm(found, axis=0))
    of_w, of_h = columns
    found = np.zeros((problem.num_parameters, of_w.shape[1] + of_h.shape[1]), params.W.dtype)
    found[: len(of_w), : of_w.shape[1]] = of_w
    found[len(of_w) : len(of_w) + len(of_h), of_w.shape[1] :] = of_h
    return found


@one_blas_thread()
def tangent_eigenpairs(
    problem: Problem, params: Params
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, "P q"]]:
    """Eigenvalues, ascending, and eigenvectors on the tangent space."""
    A, normals = tangent_hessian(problem, params)
    # Normal vectors are moved beyond all eigenvalues, and dropped.
    values, vectors = np.linalg.eigh(A + (2 * np.linalg.norm(A) + 1) * normals @ normals.T)
    kept = len(values) - normals.shape[1]
    return values[:kept], vectors[:, :kept]


def steepest_curvature(problem: Problem, params: Params) -> tuple[float, Params] | None:
    """The lowest eigenvalue with its direction; None if the matrix would be large."""
    if problem.num_parameters > _LARGEST:
        return None
    values, vectors = tangent_eigenpairs(problem, params)
    K, d = params.W.shape
    W, H, b = np.split(vectors[:, 0], np.cumsum([K * d, params.H.size]))
    direction = Params(
        jnp.asarray(W.reshape(K, d)),
        jnp.asarray(H.reshape(params.H.shape)),
        None if params.b is None else jnp.asarray(b),
    )
    return float(values[0]), direction


def is_local_minimum(problem: Problem, params: Params, margin: float) -> bool:
    """Whether all eigenvalues exceed the margin but as many as rotations force to zero."""
    if problem.num_parameters > _LARGEST:
        return False
    values, _ = tangent_eigenpairs(problem, params)
    within = int(np.sum(values <= margin))
    given = isinstance(problem.classifier, Fixed)  # no rotation keeps it
    return values[0] >= -margin and within == (0 if given else rotation_dimension(problem, params))
