r"""Extremal eigenpairs without a matrix, for the model and for any function of a pytree.

In the model the tangents of the rotation orbit, which are zeros of ∇²f at critical points, are
projected away: at the smallest end they would be all that is found. See `ufm.hessian.block_lanczos`
for the method and `ufm.hessian.gauge` for the projection.

    >>> pairs = extremal_eigenpairs(problem, params, jax.random.key(0), count=5, end="smallest")
    >>> pairs.values, pairs.residuals
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from ufm.hessian.block_lanczos import RitzPairs, leading_eigenpairs
from ufm.hessian.dense import check_point
from ufm.hessian.gauge import Frame, frame, gauge, shift_is_free, without_gauge
from ufm.linearisation import hessian_product, linearise
from ufm.params import Params
from ufm.problem import Problem, value_and_gradient

#: Vectors in a block beyond those asked for: the last ones of a block converge slowest.
_SPARE = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues at one end, from the end inwards, with unit eigenvectors and error bounds.

    `vectors` is the point's structure with a leading axis; `residuals` are ‖∇²f v − λ v‖ from a
    last product: within each of them of its value lies an eigenvalue. Multiplicities are those in
    the space orthogonal to the `deflated` directions of symmetry; of the last value some copies may
    be left out. `converged` is False where `max_products` ended the search.
    """

    values: Float[np.ndarray, " k"]
    vectors: Any
    residuals: Float[np.ndarray, " k"]
    num_products: int
    converged: bool
    deflated: int


def extremal_eigenpairs(
    problem: Problem,
    params: Params,
    key: Key[Array, ""],
    *,
    count: int = 5,
    end: str = "smallest",
    tol: float | None = None,
    max_products: int = 20_000,
) -> Eigenpairs:
    """The `count` smallest or largest eigenvalues of ∇²f; at critical points, modulo symmetries.

    tol is relative to ‖∇²f‖₂; None is 1e-9 in double precision and 1e-4 in single. Raises
    `ValueError` for a point that is not finite.
    """
    check_point(problem, params)
    dimension = problem.num_parameters
    block = _block_size(count, dimension, end)
    parts, deflated = _deflated(problem, params)
    dtype = params.W.dtype
    data = (
        problem,
        linearise(problem, params),
        Frame(*(jnp.asarray(x, dtype) for x in parts)),
        jnp.asarray(shift_is_free(problem)),
    )
    found = leading_eigenpairs(
        _model_product,
        data,
        jax.random.normal(key, (block, dimension), dtype),
        count,
        largest=end == "largest",
        tol=_tolerance(tol, dtype),
        max_products=max_products,
        project=_model_project,
    )
    vectors = jax.vmap(functools.partial(_unflatten, problem))(found.vectors)
    return _eigenpairs(found, vectors, deflated)


def extremal_eigenpairs_of(
    function: Callable[[Any], Any],
    point: Any,
    key: Key[Array, ""],
    *,
    count: int = 5,
    end: str = "largest",
    tol: float | None = None,
    max_products: int = 2_000,
) -> Eigenpairs:
    """The same for the Hessian of any function of a pytree of arrays, such as a network's loss."""
    flat, unravel = ravel_pytree(point)
    if not bool(jnp.all(jnp.isfinite(flat))):
        raise ValueError("the point is not finite: it has no Hessian")
    found = leading_eigenpairs(
        FunctionProduct(function),
        point,
        jax.random.normal(key, (_block_size(count, flat.size, end), flat.size), flat.dtype),
        count,
        largest=end == "largest",
        tol=_tolerance(tol, flat.dtype),
        max_products=max_products,
    )
    return _eigenpairs(found, jax.vmap(unravel)(found.vectors), 0)


def _eigenpairs(found: RitzPairs, vectors: Any, deflated: int) -> Eigenpairs:
    return Eigenpairs(
        found.values, vectors, found.residuals, found.num_products, found.converged, deflated
    )


def _deflated(problem: Problem, params: Params) -> tuple[Frame, int]:
    """The frame whose rotations are projected away, and the dimension of all that is.

    Rotations are eigenvectors, of 0, only at critical points: elsewhere they stay.
    """
    _, gradient = value_and_gradient(problem, params)
    found, orbit = frame(params), gauge(problem, params, gradient)
    if not orbit.flat:
        none = Frame(found.left[:, :0], found.sizes[:0], found.right[:, :0])
        return none, int(shift_is_free(problem))
    return found, orbit.dimension


def _block_size(count: int, dimension: int, end: str) -> int:
    if end not in ("smallest", "largest"):
        raise ValueError(f"end must be 'smallest' or 'largest', got {end!r}")
    if not 1 <= count <= dimension:
        raise ValueError(f"count must be from 1 to the {dimension} dimensions, got {count}")
    return min(count + _SPARE, dimension)


def _tolerance(tol: float | None, dtype: Any) -> float:
    if tol is None:
        return 1e-9 if jnp.finfo(dtype).bits == 64 else 1e-4
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    return float(tol)


def _unflatten(problem: Problem, flat: Float[Array, " P"]) -> Params:
    classes, dim, columns = problem.num_classes, problem.dim, problem.num_columns
    ends = (classes * dim, dim * (classes + columns))
    W, H, b = jnp.split(flat, ends)
    return Params(W.reshape(classes, dim), H.reshape(dim, columns), b if problem.has_bias else None)


def _flatten(point: Params) -> Float[Array, " P"]:
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(point)])


def _model_product(data: Any, block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    problem, at, *_ = data

    def one(v: Float[Array, " P"]) -> Float[Array, " P"]:
        return _flatten(hessian_product(problem, at, _unflatten(problem, v)))

    return jax.lax.map(one, block)  # half the time of the mapped products, on a CPU


def _model_project(data: Any, block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    problem, _, parts, free_shift = data
    return jax.vmap(lambda v: _flatten(without_gauge(parts, free_shift, _unflatten(problem, v))))(
        block
    )


@dataclasses.dataclass(frozen=True)
class FunctionProduct:
    """Products with the Hessian of a function at a pytree, on blocks of flat vectors."""

    function: Callable[[Any], Any]

    def __call__(self, point: Any, block: Float[Array, "b P"]) -> Float[Array, "b P"]:
        _, unravel = ravel_pytree(point)

        def one(v: Float[Array, " P"]) -> Float[Array, " P"]:
            return ravel_pytree(jax.jvp(jax.grad(self.function), (point,), (unravel(v),))[1])[0]

        return jax.lax.map(one, block)
