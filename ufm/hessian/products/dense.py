"""The Hessian as a matrix, for sizes at which that is possible, and its eigenvalues."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ufm.hessian.products.split import part_product
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.hessian_product import linearise
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes, value_and_gradient

#: Dimensions above which a dense Hessian is refused: 800 MB, and minutes of LAPACK.
LARGEST = 10_000
#: Products formed at once.
_CHUNK = 64


def check_point(problem: Problem, params: Params) -> None:
    """Raise `ValueError` for a point that is none of the problem's, or is not finite."""
    check_shapes(problem, params)
    if not all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(params)):
        raise ValueError("the point is not finite: it has no Hessian")


def check_entries(matrix: np.ndarray) -> None:
    """Raise `LinAlgError`, a `ValueError`, for a matrix whose eigenvalues LAPACK cannot find."""
    if not np.all(np.isfinite(matrix)):
        raise np.linalg.LinAlgError(
            "the Hessian's entries overflow at this point: scale W and H down (their products and "
            "the loss's derivatives must stay below 1e308, or 3e38 in float32)"
        )


def dense_hessian(problem: Problem, params: Params, part: str = "all") -> Float[np.ndarray, "P P"]:
    """∇²f, or one part of it, as a matrix, in the order (W row by row, H row by row, b).

    Raises `ValueError` above 10,000 dimensions, with the memory that the matrix would need.
    """
    check_point(problem, params)
    size = problem.num_parameters
    if size > LARGEST:
        gigabytes = size**2 * params.W.dtype.itemsize / 1e9
        raise ValueError(
            f"the Hessian has {size:,} dimensions: as a matrix it would need {gigabytes:,.1f} GB, "
            f"and dense stops at {LARGEST:,}. Use method='collapsed' or 'closed_form' at collapsed "
            "points, inertia for counts, method='lanczos' for the extremes"
        )
    H = np.array(_matrix(problem, params, part))
    check_entries(H)
    return 0.5 * (H + H.T)


@functools.partial(jax.jit, static_argnames="part")
def _matrix(problem: Problem, params: Params, part: str) -> Float[Array, "P P"]:
    at = linearise(problem, params)
    flat, unravel = ravel_pytree(params)

    def column(i: Array) -> Array:
        unit = jnp.zeros_like(flat).at[i].set(1.0)
        return ravel_pytree(part_product(problem, at, unravel(unit), part))[0]

    return jax.lax.map(column, jnp.arange(flat.size), batch_size=_CHUNK)


def dense_spectrum(problem: Problem, params: Params, cluster_tol: float | None = None) -> Spectrum:
    """All eigenvalues by LAPACK."""
    eigenvalues = np.linalg.eigvalsh(dense_hessian(problem, params))
    _, gradient = value_and_gradient(problem, params)
    return assemble(
        [Part("", eigenvalues, 1, rounding(eigenvalues))],
        problem=problem,
        gauge=gauge(problem, params, gradient),
        method="dense",
        cluster_tol=cluster_tol,
    )


def rounding(eigenvalues: Float[np.ndarray, " m"]) -> float:
    """What a backward stable eigenvalue solver leaves: m · eps · max |λ|."""
    if not eigenvalues.size:
        return 0.0
    eps = float(np.finfo(eigenvalues.dtype).eps)
    return eigenvalues.size * eps * float(np.max(np.abs(eigenvalues)))
