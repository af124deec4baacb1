r"""Projected gradient descent on H ≥ 0: x ← P(x − t ∇f(x)), P clipping H at 0.

The trial step is the short one of Barzilai & Borwein (1988), as in
`ufm.solvers.gradient_descent`, for the spectral projected gradient (Birgin, Martínez & Raydan,
2000). It is halved until f falls by a fraction of the slope along the chord x⁺ − x.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.objective import value_and_gradient
from ufm.model.params import Params, dot
from ufm.model.problem import Problem
from ufm.solvers._branches import either
from ufm.solvers._line_search import sufficient_decrease
from ufm.solvers._loop import FIRST_ORDER_PATIENCE, Point
from ufm.variants.nonnegative.projected_newton import projected

default_max_steps = 50_000
patience = FIRST_ORDER_PATIENCE
init_products = 0
evaluates_start = True
balanced = False
_MAX_HALVINGS = 60


class _State(NamedTuple):
    size: Array
    started: Array


class _Search(NamedTuple):
    point: Point
    size: Array
    tries: Array
    accepted: Array


def init(problem: Problem, point: Point) -> _State:
    """The first step computes the value and gradient of the start."""
    del problem
    return _State(jnp.ones_like(point.value), jnp.zeros((), bool))


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    """Halve the step until f falls; the start is evaluated by a step of length 0."""

    def attempt(size: Array, tries: Array) -> _Search:
        moved = jax.tree.map(lambda x, g: x - size * g, point.params, point.grad)
        target = Params(moved.W, jnp.maximum(moved.H, 0.0), moved.b)
        value, gradient = value_and_gradient(problem, target)
        chord = jax.tree.map(jnp.subtract, target, point.params)
        slope, new_slope = dot(point.grad, chord), dot(gradient, chord)
        one = jnp.ones_like(size)
        accepted = (slope < 0) & sufficient_decrease(point.value, value, slope, new_slope, one)
        new = Point(target, value, projected(target, gradient))
        return _Search(new, size, tries + 1, accepted | ~state.started)

    blank = _Search(point, 2.0 * state.size, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    found = jax.lax.while_loop(
        lambda search: ~search.accepted & (search.tries < _MAX_HALVINGS),
        lambda search: attempt(0.5 * search.size, search.tries),
        blank,
    )
    # No step was accepted: stay, so that the loop ends the run as stalled.
    new = either(found.accepted, found.point, point)
    chord = jax.tree.map(jnp.subtract, new.params, point.params)
    change = jax.tree.map(jnp.subtract, new.grad, point.grad)
    along, curvature = dot(chord, change), dot(change, change)
    secant = jnp.where(along > 0, along / jnp.where(curvature > 0, curvature, 1.0), 0.0)
    size = jnp.where(secant > 0, secant, 2.0 * found.size)
    size = jnp.where(found.accepted & state.started, size, jnp.minimum(found.size, 1.0))
    return new, _State(size, jnp.ones((), bool)), found.tries
