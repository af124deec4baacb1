"""A point of the model, and the inner product of points."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.pytree import pytree
from ufm._support.shown import Shown

Scalar = Float[Array, ""]


@pytree()
class Params(Shown):
    """A point (W, H, b). W: (K, d), H: (d, N), b: (K,) or None; any leading batch axes.

    `hidden` holds the matrices between W and H of a model with more layers, from W on; W then has
    as many columns as the first of them has rows.
    """

    W: Float[Array, "*batch K _"]
    H: Float[Array, "*batch d N"]
    b: Float[Array, "*batch K"] | None
    hidden: tuple[Float[Array, "*batch _ _"], ...] = ()

    _optional = ("hidden",)

    @property
    def whole_classifier(self) -> Any:
        """W F_1 ⋯ F_L, the matrix that acts on the features: W, unless there are hidden layers."""
        return functools.reduce(lambda x, y: x @ y, self.hidden, self.W)


def dot(x: Any, y: Any) -> Scalar:
    """⟨x, y⟩ over all parameters, or over any two trees of arrays of the same shape."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), x, y)
    return functools.reduce(jnp.add, jax.tree.leaves(products))


def norm(x: Any) -> Scalar:
    """‖x‖ over all parameters."""
    return jnp.sqrt(dot(x, x))


def along(length: Any, direction: Any, origin: Any) -> Any:
    """origin + length · direction."""
    return jax.tree.map(lambda d, x: x + length * d, direction, origin)


def finite_or_zero(x: Any) -> Any:
    """The point, or zeros if any of its numbers is not finite.

    LAPACK's singular value decomposition never returns if an entry is infinite. Callers must handle
    points that are not finite.
    """
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(x)]
    finite = functools.reduce(jnp.logical_and, leaves)
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0.0), x)
