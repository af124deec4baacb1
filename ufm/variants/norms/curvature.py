r"""Hessian products, the Hessian as a matrix, and counts of its eigenvalues, on the tangent space.

Directions (A, B) orthogonal to the span of W and H in the feature space do not change the logits to
first order and are tangent. There the Hessian is M = [[diag a, G], [Gᵀ, diag β]] with all N
columns, once for each unused dimension, and it does not mix with the rest. So with r the rank of
[W; Hᵀ]

    spectrum(d) = spectrum(r) ∪ spec(M) × (d − r),   index(d) = index(r) + (d − r) · neg(M).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm._support.threads import one_blas_thread
from ufm.hessian import Inertia
from ufm.hessian.confined import inertia_of
from ufm.hessian.products.split import check_part
from ufm.hessian.symmetry_zeros import frame
from ufm.model.constraints import Fixed
from ufm.model.evaluation import evaluated
from ufm.model.problem import Params, Problem, check_shapes
from ufm.variants.norms.certificate import check_feasible
from ufm.variants.norms.geometry import GEOMETRY, local_point
from ufm.variants.norms.tangent_space import tangent_eigenpairs, tangent_hessian

#: Largest matrix that is diagonalised: half a minute of LAPACK.
_LARGEST = 4_000


def hvp(problem: Problem, params: Params, direction: Params, part: str = "all") -> Params:
    """`ufm.hvp`: the Riemannian Hessian of the tangent part of a direction.

    Raises `ValueError` for a part other than "all".
    """
    check_shapes(problem, direction)
    check_feasible(problem, params)
    if part != "all":
        raise ValueError(f"part must be 'all' for factors of confined norm, got {part!r}")
    _, _, local = local_point(problem, params)
    tangent = GEOMETRY.tangent(problem, params, local, direction)
    return GEOMETRY.product(problem, params, local, tangent)


def dense_hessian(problem: Problem, params: Params, part: str = "all") -> Float[np.ndarray, "P P"]:
    """`ufm.dense_hessian`: projected to the tangent space, zero on normal vectors."""
    check_part(part)
    check_feasible(problem, params)
    _check_size(problem.num_parameters)
    return tangent_hessian(problem, params, part)[0]


def inertia(
    problem: Problem,
    params: Params,
    shift: float = 0.0,
    tol: float | None = None,
    *,
    modulo_rotations: bool = False,
) -> Inertia:
    """`ufm.inertia` on the tangent space, by LAPACK in r dimensions and of M for the others."""
    if modulo_rotations:
        raise ValueError("modulo_rotations is not for factors of confined norm: leave it out")
    check_feasible(problem, params)
    return inertia_of(tangent_eigenvalues(problem, params), shift, tol)


def tangent_eigenvalues(problem: Problem, params: Params) -> Float[np.ndarray, " q"]:
    """All eigenvalues on the tangent space, from the rank of the point and from M."""
    inside, outside, copies = split_eigenvalues(problem, params)
    return np.sort(np.concatenate([inside, np.repeat(outside, copies)]))


def split_eigenvalues(problem: Problem, params: Params) -> tuple[Any, Any, int]:
    """Those in as many dimensions as the rank of the point, those of M, and their number."""
    if isinstance(problem.classifier, Fixed):  # which dimensions are unused is up to it
        _check_size(problem.num_parameters)
        return tangent_eigenpairs(problem, params)[0], np.zeros(0, params.W.dtype), 0
    axes = frame(params).right
    if axes.shape[1] < 2:  # a sphere needs two dimensions
        axes = np.linalg.svd(axes)[0][:, :2]
    rank = axes.shape[1]
    low = Params(params.W @ axes, jnp.asarray(axes.T) @ params.H, params.b)
    small = dataclasses.replace(problem, dim=rank)
    _check_size(small.num_parameters)
    inside = tangent_eigenpairs(small, low)[0]
    return inside, np.linalg.eigvalsh(unused_matrix(problem, params)), problem.dim - rank


@one_blas_thread()
def unused_matrix(problem: Problem, params: Params) -> Float[np.ndarray, "n n"]:
    """M = [[diag a, G], [Gᵀ, diag β]], decays included, with all columns."""
    _, _, local = local_point(problem, params)
    G = np.asarray(evaluated(problem, params).G)
    lam_w, lam_h, _ = (float(x) for x in problem.decays(G.dtype))
    K, N = G.shape
    a = np.broadcast_to(np.asarray(local.a)[:, 0] + lam_w, (K,))
    beta = np.broadcast_to(np.asarray(local.beta)[0] + lam_h, (N,))
    return np.block([[np.diag(a), G], [G.T, np.diag(beta)]])


def _check_size(size: int) -> None:
    if size > _LARGEST:
        raise ValueError(
            f"the Hessian has {size:,} dimensions, and matrices stop at {_LARGEST:,} for factors "
            "of confined norm: use ufm.hvp"
        )
