r"""Eigenpairs at one end of a symmetric operator: block Lanczos with thick restarts.

An orthonormal basis Q of the block Krylov space and its images AQ are kept; Ritz pairs come from
QᵀAQ itself, residuals ‖Ax − θx‖ from the images, and the residuals of the b wanted pairs are the
next block. Two rounds of Gram–Schmidt against the whole basis leave no ghosts (Parlett, 1980, §13),
a block of b ≥ k vectors meets every eigenspace in min(b, multiplicity) dimensions, so that the k
leading eigenvalues are found with their multiplicities (Golub & Underwood, 1977; Saad, 2011, §6.5),
and restarting with the best Ritz vectors keeps the storage fixed (Wu & Simon, 2000). Where restarts
do not get there, as at an end whose eigenvalues are tiny beside the other's, the basis is doubled
as far as memory goes: without restarts it ends after as many products as there are dimensions.

**What is known of a value.** Some eigenvalue lies within ‖Ax − θx‖ of θ; and by Courant and Fischer
the i-th from the end is at least as far out as the i-th Ritz value. Neither says that none lies
farther out.

Operators are functions of their data and of a block of row vectors, `product(data, V) -> AV`, so
that one compilation serves every point of a problem.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.hessian.products.trees import NOT_FINITE
from ufm.model.problem import matmul

#: Basis vectors for every vector of the block, and how many of them survive a restart.
_WIDTH, _KEPT = 6, 2
#: Products for every basis vector before there are twice as many: more would have to be compiled
#: for, which pays where restarts do not converge.
_PATIENCE = 4
#: Times that the basis is held: itself, its images, and a copy of both at restarts.
COPIES = 4
#: Vectors held for every vector of the block at first.
VECTORS = COPIES * _WIDTH

Operator = Callable[[Any, Array], Array]


class RitzPairs(NamedTuple):
    """Values, ascending or descending from the end asked for; unit vectors as rows; ‖Ax − θx‖."""

    values: Float[np.ndarray, " k"]
    vectors: Float[Array, "k P"]
    residuals: Float[np.ndarray, " k"]
    num_products: int
    converged: bool


class _Space(NamedTuple):
    """An orthonormal basis as rows, zero rows behind it, and its images."""

    basis: Float[Array, "m P"]
    images: Float[Array, "m P"]


def leading_eigenpairs(
    product: Operator,
    data: Any,
    start: Float[Array, "b P"],
    count: int,
    *,
    largest: bool,
    tol: float,
    max_products: int,
    max_vectors: int = 0,
    project: Operator | None = None,
    removed: int = 0,
) -> RitzPairs:
    """The `count` ≤ b eigenpairs at one end, from a random block.

    Converged when all residuals are at most `tol` times the largest Ritz value in size. The basis
    grows to `max_vectors`, if that is more than it begins with. Raises `ValueError` where a product
    is not finite. `project`
    confines everything to a subspace, of `removed` dimensions fewer: the operator is then P A P
    there, and the residuals reported are those of A.
    """
    block_size, dimension = len(start), start.shape[1] - removed
    if not 1 <= count <= block_size <= dimension:
        raise ValueError(
            f"a block of {block_size} vectors in {dimension} dimensions gives from 1 to "
            f"{min(block_size, dimension)} eigenpairs, not {count}"
        )
    width = min(_WIDTH * block_size, dimension)
    sign, dtype = (-1.0 if largest else 1.0), np.dtype(start.dtype)
    # Two arrays: a donated buffer cannot be donated twice.
    space = _Space(*(jnp.zeros((width, start.shape[1]), dtype) for _ in range(2)))
    small = np.zeros((width, width), dtype)
    size, block, scale, used, look = 0, start, 0.0, 0, 0
    while True:
        room = min(block_size, width - size)
        space, rows, block = _grow(product, project, data, space, block[:room], jnp.asarray(size))
        used += room
        small[size : size + room] = np.asarray(rows)
        if not np.all(np.isfinite(small[size : size + room])):
            raise ValueError(NOT_FINITE)
        small[:, size : size + room] = small[size : size + room].T
        size += room
        full = size + block_size > width
        if not (full or size >= look or used >= max_products):
            continue
        # The eigenvalues of QAQᵀ cost more than a block of products where the basis is large.
        look = size + size // 4
        values, vectors = np.linalg.eigh(sign * small[:size, :size])
        values *= sign
        scale = max(scale, float(np.max(np.abs(values))))
        wanted = min(block_size, size)
        chosen = _padded(vectors[:, :wanted], width, wanted)
        residual, sizes = _residual(space, chosen, jnp.asarray(values[:wanted]))
        worst = float(np.max(np.asarray(sizes)[:count]))
        done = worst <= tol * scale
        if done or used >= max_products or size == dimension:
            break
        if not full or width == dimension:
            continue
        wider = min(2 * width, dimension)
        if used >= _PATIENCE * width and wider <= max_vectors:
            space = _Space(*(jnp.pad(x, ((0, wider - width), (0, 0))) for x in space))
            small = np.pad(small, (0, wider - width))
            width = wider
        else:
            size = look = _KEPT * block_size
            space = _rotate(space, _padded(vectors[:, :size], width, width))
            small = np.zeros_like(small)
            small[:size, :size] = np.diag(values[:size])
            block = residual
    values = values[:count]
    found, errors = _checked(product, data, space, chosen[:, :count], jnp.asarray(values))
    return RitzPairs(values, found, np.asarray(errors), used + count, done)


def _padded(vectors: np.ndarray, width: int, columns: int) -> Array:
    """Coefficients on the whole storage: zero on its unused rows, and for further columns."""
    out = np.zeros((width, columns), vectors.dtype)
    out[: len(vectors), : vectors.shape[1]] = vectors
    return jnp.asarray(out)


@functools.partial(jax.jit, static_argnames=("product", "project"), donate_argnames="space")
def _grow(
    product: Operator,
    project: Operator | None,
    data: Any,
    space: _Space,
    block: Float[Array, "b P"],
    size: Array,
) -> tuple[_Space, Float[Array, "b m"], Float[Array, "b P"]]:
    """The space with an orthonormalised block behind its `size` vectors; its rows of QAQᵀ, and the
    block's images, with which the Krylov space goes on.
    """

    def inside(V: Array) -> Array:
        return V if project is None else project(data, V)

    for _ in range(3):
        block = inside(_unit_rows(block))
        block = block - matmul(matmul(block, space.basis.T), space.basis)
        block = _orthonormal(_unit_rows(block))
    images = inside(product(data, block))
    at = (size, jnp.zeros_like(size))
    space = _Space(
        jax.lax.dynamic_update_slice(space.basis, block, at),
        jax.lax.dynamic_update_slice(space.images, images, at),
    )
    return space, matmul(images, space.basis.T), images


def _unit_rows(block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    """Residuals of converged pairs are rounding: brought to length 1, they are random vectors."""
    tiny = float(jnp.finfo(block.dtype).tiny)
    return block / jnp.maximum(jnp.linalg.norm(block, axis=1, keepdims=True), tiny)


def _orthonormal(block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    """The polar way to an orthonormal basis of the rows, from their Gram matrix (Stathopoulos & Wu,
    2002): one product where Householder's QR of a tall matrix runs on one vector at a time.
    Dependent rows come out short, and are rounding that the next round brings to length 1.
    """
    sizes, vectors = jnp.linalg.eigh(matmul(block, block.T))
    least = float(jnp.finfo(block.dtype).eps) * sizes[-1]
    return matmul((vectors / jnp.sqrt(jnp.maximum(sizes, least))[None, :]).T, block)


@jax.jit
def _residual(
    space: _Space, chosen: Float[Array, "m b"], values: Float[Array, " b"]
) -> tuple[Float[Array, "b P"], Float[Array, " b"]]:
    residual = matmul(chosen.T, space.images) - values[:, None] * matmul(chosen.T, space.basis)
    return residual, jnp.linalg.norm(residual, axis=1)


@functools.partial(jax.jit, donate_argnums=0)
def _rotate(space: _Space, vectors: Float[Array, "m m"]) -> _Space:
    return _Space(matmul(vectors.T, space.basis), matmul(vectors.T, space.images))


@functools.partial(jax.jit, static_argnames="product")
def _checked(
    product: Operator,
    data: Any,
    space: _Space,
    chosen: Float[Array, "m k"],
    values: Float[Array, " k"],
) -> tuple[Float[Array, "k P"], Float[Array, " k"]]:
    """Unit Ritz vectors, and their residuals with fresh products."""
    found = matmul(chosen.T, space.basis)
    found = found / jnp.linalg.norm(found, axis=1, keepdims=True)
    residual = product(data, found) - values[:, None] * found
    return found, jnp.linalg.norm(residual, axis=1)
