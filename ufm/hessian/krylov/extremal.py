r"""Extremal eigenpairs without a matrix, for the model and for any function of a pytree.

For the model, the tangents of the rotation orbit, where ∇²f is zero at critical points, are
projected out. Otherwise a search at the smallest end would find nothing else. See
`ufm.hessian.krylov.block_lanczos` for the method and `ufm.hessian.symmetry_zeros` for the
projection.

    >>> pairs = extremal_eigenpairs(problem, origin(problem), key, count=2, end="largest")
    >>> [round(float(x), 6) for x in pairs.values]
    [0.26, 0.26]
    >>> pairs = extremal_eigenpairs_of(lambda x: jnp.sum(x**2), jnp.ones(8), key, count=2)
    >>> [round(float(x), 6) for x in pairs.values]
    [2.0, 2.0]
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from ufm._support.random_numbers import gaussian
from ufm._support.shown import Shown
from ufm.hessian.krylov.block_lanczos import COPIES, VECTORS, RitzPairs, leading_eigenpairs
from ufm.hessian.products.columns import check_point
from ufm.hessian.products.trees import (
    array_tree,
    check_memory,
    check_tree,
    flat,
    function_product,
    unflatten,
)
from ufm.hessian.symmetry_zeros import Frame, frame, gauge, shift_is_free, without_gauge
from ufm.model.hessian_product import hessian_product, linearise
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: Additional vectors in a block, since the last vectors of a block converge slowest.
_SPARE = 3


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs(Shown):
    """Eigenvalues at one end, from the end inwards, with unit eigenvectors and error bounds.

    `vectors` has the point's structure with a leading axis. `residuals` are ‖∇²f v − λ v‖ from a
    final product: an eigenvalue lies within each residual of its value, and the i-th eigenvalue
    from the end lies at the i-th value or farther out. That none lies farther out is not proven,
    because a random start can be almost orthogonal to an eigenvector. (`ufm.inertia` proves it by
    counting; `ufm.spectral_density_of(...).extremes()` bounds both ends with a confidence.)
    Multiplicities are those in the space orthogonal to the `deflated` directions of symmetry;
    copies of the last value may be missing. `converged` is False if `max_products` ended the search
    before the residuals reached `tol`.
    """

    values: Float[np.ndarray, " k"]
    vectors: Any
    residuals: Float[np.ndarray, " k"]
    num_products: int
    converged: bool
    deflated: int

    @property
    def _caution(self) -> str:
        if self.converged:
            return ""
        return (
            f"NOT CONVERGED after {self.num_products} products: eigenvalues may lie farther out "
            "than these values; raise max_products, max_bytes or tol"
        )


@by_variant
def extremal_eigenpairs(
    problem: Problem,
    params: Params,
    key: Key[Array, ""],
    *,
    count: int = 5,
    end: str = "smallest",
    tol: float | None = None,
    max_products: int = 20_000,
    max_bytes: int = 2**32,
) -> Eigenpairs:
    """Compute the smallest or largest eigenvalues of ∇²f; at critical points, modulo symmetries.

    The search continues until all residuals reach `tol`, with a basis that grows up to `max_bytes`.
    If it ends earlier, `converged` is False.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        key: Random key of the first block of vectors.
        count: Number of eigenvalues.
        end: "smallest" or "largest".
        tol: Largest residual, relative to ‖∇²f‖₂; None is 1e-9 in float64 and 1e-4 in float32.
        max_products: Largest number of Hessian products.
        max_bytes: Largest memory for the basis, in bytes.

    Returns:
        The values from the end inwards, unit vectors, residuals, and whether they converged.

    Raises:
        ValueError: The point or its Hessian is not finite, or an argument is out of range.
    """
    check_point(problem, params)
    dimension = problem.num_parameters
    dtype = params.W.dtype
    parts, deflated = _deflated(problem, params)
    block = _block_size(count, dimension, dtype, end, max_bytes, deflated)
    data = (
        problem,
        linearise(problem, params),
        Frame(*(jax.device_put(np.asarray(x, dtype)) for x in parts)),
        jnp.asarray(shift_is_free(problem)),
    )
    found = leading_eigenpairs(
        _model_product,
        data,
        gaussian(key, (block, dimension), dtype),
        count,
        largest=end == "largest",
        tol=_tolerance(tol, dtype),
        max_products=max_products,
        max_vectors=max_bytes // (COPIES * dimension * dtype.itemsize),
        project=_model_project,
        removed=deflated,
    )
    return _eigenpairs(found, unflatten(problem, found.vectors), deflated)


def extremal_eigenpairs_of(
    function: Callable[..., Any],
    point: Any,
    key: Key[Array, ""],
    *,
    args: Any = (),
    count: int = 5,
    end: str = "largest",
    tol: float | None = None,
    max_products: int = 20_000,
    max_bytes: int = 2**32,
) -> Eigenpairs:
    """Compute extremal eigenvalues of the Hessian of any function, such as a network's loss.

    Args:
        function: `function(point, *args)` is a scalar. Pass data as `args`: data that the function
            closes over is compiled in.
        point: A tree of float arrays.
        key: Random key of the first block of vectors.
        args: A tuple of further arguments, or the only one.
        count: Number of eigenvalues.
        end: "smallest" or "largest".
        tol: Largest residual, relative to the Hessian's norm; None is 1e-9 in float64 and 1e-4 in
            float32.
        max_products: Largest number of Hessian products.
        max_bytes: Largest memory for the basis, in bytes.

    Returns:
        The values from the end inwards, unit vectors, residuals, and whether they converged.

    Raises:
        ValueError: The leaves are not all float32 or all float64 arrays, or as
            `extremal_eigenpairs`.
    """
    point = array_tree(point)
    size, dtype = check_tree(point)
    block = _block_size(count, size, dtype, end, max_bytes)
    found = leading_eigenpairs(
        _FunctionProduct(function),
        (point, args),
        gaussian(key, (block, size), dtype),
        count,
        largest=end == "largest",
        tol=_tolerance(tol, dtype),
        max_products=max_products,
        max_vectors=max_bytes // (COPIES * size * dtype.itemsize),
    )
    unravel = ravel_pytree(point)[1]
    return _eigenpairs(found, jax.vmap(unravel)(found.vectors), 0)


def _eigenpairs(found: RitzPairs, vectors: Any, deflated: int) -> Eigenpairs:
    return Eigenpairs(
        found.values, vectors, found.residuals, found.num_products, found.converged, deflated
    )


def _deflated(problem: Problem, params: Params) -> tuple[Frame, int]:
    """The frame whose rotations are projected out, and the number of dimensions removed.

    Rotations are eigenvectors (of 0) only at critical points, so elsewhere nothing is projected
    out.
    """
    _, gradient = value_and_gradient(problem, params)
    found, orbit = frame(params), gauge(problem, params, gradient)
    if not orbit.flat:
        none = Frame(found.left[:, :0], found.sizes[:0], found.right[:, :0])
        return none, int(shift_is_free(problem))
    return found, orbit.dimension


def _block_size(
    count: int, size: int, dtype: Any, end: str, max_bytes: int, removed: int = 0
) -> int:
    if end not in ("smallest", "largest"):
        raise ValueError(f"end must be 'smallest' or 'largest', got {end!r}")
    most = size - removed
    if not 1 <= count <= most:
        raise ValueError(f"count must be from 1 to {most}, the number of dimensions, got {count}")
    block = min(count + _SPARE, most)
    check_memory(f"count + {_SPARE}", block, VECTORS, size, dtype, max_bytes)
    return block


def _tolerance(tol: float | None, dtype: Any) -> float:
    if tol is None:
        return 1e-9 if jnp.finfo(dtype).bits == 64 else 1e-4
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    return float(tol)


def _model_product(data: Any, block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    problem, at, *_ = data
    one = flat(lambda direction: hessian_product(problem, at, direction), at.params)
    return jax.lax.map(one, block)  # half the time of the mapped products, on a CPU


def _model_project(data: Any, block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    _, at, parts, free_shift = data
    one = flat(lambda direction: without_gauge(parts, free_shift, direction), at.params)
    return jax.vmap(one)(block)


@dataclasses.dataclass(frozen=True)
class _FunctionProduct:
    """Products of a function's Hessian at a tree with blocks of flat vectors."""

    function: Callable[..., Any]

    def __call__(self, data: Any, block: Float[Array, "b P"]) -> Float[Array, "b P"]:
        point, args = data
        return jax.lax.map(flat(function_product(self.function, point, args), point), block)
