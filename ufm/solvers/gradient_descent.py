r"""Gradient descent, x ← x − t ∇f(x), with automatic step sizes t.

The trial step is the short one of Barzilai & Borwein (1988), t = ⟨Δx, Δg⟩/‖Δg‖², an inverse
curvature along the last step; if the curvature is negative, t is doubled. The trial step is halved
until f falls sufficiently, so that f never rises.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.problem import Params, Problem, dot
from ufm.solvers._line_search import sufficient_decrease
from ufm.solvers._loop import FIRST_ORDER_PATIENCE, Point, evaluate

default_max_steps = 50_000
patience = FIRST_ORDER_PATIENCE
init_products = 0
evaluates_start = balanced = False
_MAX_HALVINGS = 60


class _Search(NamedTuple):
    point: Point
    step: Array
    tries: Array
    accepted: Array


def init(problem: Problem, point: Point) -> Array:
    """The first trial step, which is all of the state."""
    del problem
    # The step 1 is far too long at typical points; halving finds the right scale.
    return jnp.ones_like(point.value)


def step(
    problem: Problem,
    point: Point,
    trial: Array,
    evaluate: Callable[[Problem, Params], Point] = evaluate,
) -> tuple[Point, Array, Array]:
    """One step; a variant of the model has its own way to `evaluate` a point."""
    squared = dot(point.grad, point.grad)

    def attempt(size: Array, tries: Array) -> _Search:
        new = evaluate(problem, jax.tree.map(lambda x, g: x - size * g, point.params, point.grad))
        slope = -dot(new.grad, point.grad)
        accepted = sufficient_decrease(point.value, new.value, -squared, slope, size)
        return _Search(new, size, tries + 1, accepted)

    found = jax.lax.while_loop(
        lambda search: ~search.accepted & (search.tries < _MAX_HALVINGS),
        lambda search: attempt(0.5 * search.step, search.tries),
        attempt(trial, jnp.zeros((), jnp.int32)),
    )
    # No step was accepted: stay, so that the loop ends the run as stalled.
    new = jax.tree.map(lambda a, b: jnp.where(found.accepted, a, b), found.point, point)
    change = jax.tree.map(lambda a, b: a - b, new.grad, point.grad)
    along = -found.step * dot(change, point.grad)
    curvature = dot(change, change)
    secant = jnp.where(along > 0, along / jnp.where(curvature > 0, curvature, 1.0), 0.0)
    trial = jnp.where(secant > 0, secant, 2.0 * found.step)
    return new, jnp.where(found.accepted, trial, found.step), found.tries
