r"""The sets of the two factors: tangent spaces, multipliers, projection.

A factor splits into groups of entries: rows of W or columns of H, each with a norm of exactly
(sphere) or at most (ball) its radius, or the whole factor as one group (budget). With weighted
columns H holds √c_i h_i, whose radius is √c_i times that of h_i. For a group x with the gradient g,

    multiplier      a = −⟨x, g⟩/‖x‖² where the bound is active, else 0
    tangent part    t − ⟨x, t⟩ x/‖x‖²                where it is active, else t
    projection      x r/‖x‖ (sphere),  x min(1, r/‖x‖) (ball)

The bound of a ball is active at points of the boundary where −g points outwards. The tangent part
of g is then the projection of g for which −g stays in the tangent cone of the ball, so that its
norm is zero exactly at critical points.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ufm.model.constraints import Ball, Budget, Fixed, Sphere
from ufm.model.problem import Problem

#: A group is at the boundary if its norm is within this many roundings of the radius.
_ROUNDINGS = 64
Matrix = Float[Array, "m n"]


@runtime_checkable
class Set(Protocol):
    """Where a factor may be."""

    def active(self, x: Matrix, grad: Matrix) -> Bool[Array, "_ _"]:
        """The groups whose bound is active."""
        ...

    def multiplier(self, x: Matrix, grad: Matrix) -> Float[Array, "_ _"]:
        """The multiplier of each group."""
        ...

    def tangent(self, x: Matrix, t: Matrix, active: Bool[Array, "_ _"]) -> Matrix:
        """The tangent part of t."""
        ...

    def project(self, x: Matrix) -> Matrix:
        """The nearest point of the set."""
        ...


class Free:
    """Any matrix: a factor under weight decay."""

    def active(self, x: Matrix, grad: Matrix) -> Bool[Array, "1 1"]:
        return jnp.zeros((1, 1), bool)

    def multiplier(self, x: Matrix, grad: Matrix) -> Float[Array, "1 1"]:
        return jnp.zeros((1, 1), x.dtype)

    def tangent(self, x: Matrix, t: Matrix, active: Bool[Array, "1 1"]) -> Matrix:
        return t

    def project(self, x: Matrix) -> Matrix:
        return x


class Given(NamedTuple):
    """One matrix."""

    matrix: Matrix

    def active(self, x: Matrix, grad: Matrix) -> Bool[Array, "1 1"]:
        return jnp.ones((1, 1), bool)

    def multiplier(self, x: Matrix, grad: Matrix) -> Float[Array, "1 1"]:
        return jnp.zeros((1, 1), x.dtype)

    def tangent(self, x: Matrix, t: Matrix, active: Bool[Array, "1 1"]) -> Matrix:
        return jnp.zeros_like(t)

    def project(self, x: Matrix) -> Matrix:
        return self.matrix


class Bounded(NamedTuple):
    """Groups of bounded norm: sums over the axes `over` are those of a group."""

    over: tuple[int, ...]
    #: One radius for each group, with axes of length 1 for those summed over.
    radius: Float[Array, "_ _"]
    #: Whether norms equal the radius.
    exact: bool

    def on_boundary(self) -> "Bounded":
        """The boundary of the set."""
        return self._replace(exact=True)

    def inner(self, x: Matrix, y: Matrix) -> Float[Array, "_ _"]:
        """⟨x, y⟩ of each group."""
        return jnp.sum(x * y, axis=self.over, keepdims=True)

    def active(self, x: Matrix, grad: Matrix) -> Bool[Array, "_ _"]:
        square = self.inner(x, x)
        if self.exact:
            return jnp.ones_like(square, bool)
        least = 1.0 - _ROUNDINGS * float(jnp.finfo(x.dtype).eps)
        return (square >= least * self.radius**2) & (self.inner(x, grad) < 0)

    def multiplier(self, x: Matrix, grad: Matrix) -> Float[Array, "_ _"]:
        active = self.active(x, grad)
        return jnp.where(active, -self.inner(x, grad) / _positive(self.inner(x, x)), 0.0)

    def tangent(self, x: Matrix, t: Matrix, active: Bool[Array, "_ _"]) -> Matrix:
        radial = self.inner(x, t) / _positive(self.inner(x, x))
        return t - jnp.where(active, radial, 0.0) * x

    def project(self, x: Matrix) -> Matrix:
        size = jnp.sqrt(self.inner(x, x))
        outside = size > 0 if self.exact else size > self.radius
        return x * jnp.where(outside, self.radius / _positive(size), 1.0)


def spheres(like: Matrix, radius: Any = 1.0) -> Bounded:
    """Columns of norm r each, in the precision of a matrix."""
    return Bounded((0,), jnp.full((1, 1), radius, like.dtype), True)


def sets(problem: Problem, dtype: Any) -> tuple[Set, Set]:
    """The sets of W and of H."""
    roots = jnp.sqrt(problem.samples(dtype))[None, :]
    rows = jnp.ones((problem.num_outputs, 1), dtype)
    return (
        _set_of(problem.classifier, rows, (1,), dtype),
        _set_of(problem.features, roots, (0,), dtype),
    )


def _set_of(given: Any, roots: Array, over: tuple[int, ...], dtype: Any) -> Set:
    """The set of a factor whose vectors count as the squares of `roots`."""
    match given:
        case Sphere() | Ball():
            radius = roots * jnp.asarray(given.radius, dtype)
            return Bounded(over, radius, isinstance(given, Sphere))
        case Budget():
            total = jnp.sum(roots**2, keepdims=True) * jnp.asarray(given.mean_square, dtype)
            return Bounded((0, 1), jnp.sqrt(total), False)
        case Fixed():
            return Given(jnp.asarray(given.matrix, dtype))
        case _:
            return Free()


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1.0)
