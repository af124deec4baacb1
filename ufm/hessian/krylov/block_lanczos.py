r"""Eigenpairs at one end of a symmetric operator: block Lanczos with thick restarts.

An orthonormal basis Q of the block Krylov space and its images AQ are kept; Ritz pairs come from
QᵀAQ itself, residuals ‖Ax − θx‖ from the images, and the residuals of the b wanted pairs form the
next block. Two rounds of Gram–Schmidt against the whole basis prevent ghosts (Parlett, 1980, §13).
A block of b ≥ k vectors meets every eigenspace in min(b, multiplicity) dimensions, so that the k
leading eigenvalues are found with their multiplicities (Golub & Underwood, 1977; Saad, 2011, §6.5).
Restarting with the best Ritz vectors keeps the storage fixed (Wu & Simon, 2000). If restarts do not
converge, as at an end whose eigenvalues are tiny compared with the other end, the basis is doubled
up to the limit of memory. Without restarts the iteration ends after at most n products.

**Guarantees.** Some eigenvalue lies within ‖Ax − θx‖ of θ, and by Courant and Fischer the i-th
eigenvalue from the end is at least as far out as the i-th Ritz value. Neither statement excludes
eigenvalues farther out.

Operators are functions of their data and of a block of row vectors, `product(data, V) -> AV`, so
that one compilation suffices for all points of a problem.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.hessian.products.trees import NOT_FINITE
from ufm.model.objective import matmul

#: Number of basis vectors per vector of the block, and number kept at a restart.
_WIDTH, _KEPT = 6, 2
#: Products per basis vector before the basis is doubled, which needs another compilation and pays
#: only if restarts do not converge.
_PATIENCE = 4
#: Number of copies of the basis in memory: itself, its images, and a copy of both at restarts.
COPIES = 4
#: Initial number of stored vectors per vector of the block.
VECTORS = COPIES * _WIDTH

Operator = Callable[[Any, Array], Array]


class RitzPairs(NamedTuple):
    """Values, ordered from the requested end inwards; unit vectors as rows; ‖Ax − θx‖."""

    values: Float[np.ndarray, " k"]
    vectors: Float[Array, "k P"]
    residuals: Float[np.ndarray, " k"]
    num_products: int
    converged: bool


class _Space(NamedTuple):
    """An orthonormal basis as rows, followed by zero rows, and its images."""

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
    """Compute the `count` ≤ b eigenpairs at one end, from a random block.

    The search has converged if all residuals are at most `tol` times the modulus of the largest
    Ritz value. The basis grows to `max_vectors`, if that exceeds its initial size. Raises
    `ValueError` if a product is not finite. `project` restricts the search to a subspace with
    `removed` dimensions fewer: the operator is P A P there, and the residuals are those of A.
    """
    block_size, dimension = len(start), start.shape[1] - removed
    if not 1 <= count <= block_size <= dimension:
        raise ValueError(
            f"a block of {block_size} vectors in {dimension} dimensions gives from 1 to "
            f"{min(block_size, dimension)} eigenpairs, not {count}"
        )
    width = min(_WIDTH * block_size, dimension)
    sign, dtype = (-1.0 if largest else 1.0), np.dtype(start.dtype)
    # Two arrays, because a buffer cannot be donated twice.
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
        # For a large basis, the eigenvalues of QAQᵀ cost more than a block of products.
        look = size + size // 4
        values, vectors = np.linalg.eigh(sign * small[:size, :size])
        values *= sign
        scale = max(scale, float(np.max(np.abs(values))))
        wanted = min(block_size, size)
        chosen = _padded(vectors[:, :wanted], width, wanted)
        residual, sizes = _residual(space, chosen, jax.device_put(values[:wanted]))
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
    found, errors = _checked(product, data, space, chosen[:, :count], jax.device_put(values))
    return RitzPairs(values, found, np.asarray(errors), used + count, done)


def _padded(vectors: np.ndarray, width: int, columns: int) -> Array:
    """Pad coefficients with zeros to the whole storage and to further columns."""
    out = np.zeros((width, columns), vectors.dtype)
    out[: len(vectors), : vectors.shape[1]] = vectors
    return jax.device_put(out)


@functools.partial(jax.jit, static_argnames=("product", "project"), donate_argnames="space")
def _grow(
    product: Operator,
    project: Operator | None,
    data: Any,
    space: _Space,
    block: Float[Array, "b P"],
    size: Array,
) -> tuple[_Space, Float[Array, "b m"], Float[Array, "b P"]]:
    """Append an orthonormalised block to the space's `size` vectors. Return the space, the block's
    rows of QAQᵀ, and its images, which continue the Krylov space.
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
    """Normalise residuals. Rounding errors of converged pairs serve as random vectors."""
    tiny = float(jnp.finfo(block.dtype).tiny)
    return block / jnp.maximum(jnp.linalg.norm(block, axis=1, keepdims=True), tiny)


def _orthonormal(block: Float[Array, "b P"]) -> Float[Array, "b P"]:
    """Orthonormalise the rows by their Gram matrix (polar decomposition; Stathopoulos & Wu, 2002).
    This needs one product, whereas Householder's QR of a tall matrix processes vectors one by one.
    Dependent rows become short: rounding errors, which the next round normalises.
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
    """Unit Ritz vectors, and their residuals from new products."""
    found = matmul(chosen.T, space.basis)
    found = found / jnp.linalg.norm(found, axis=1, keepdims=True)
    residual = product(data, found) - values[:, None] * found
    return found, jnp.linalg.norm(residual, axis=1)
