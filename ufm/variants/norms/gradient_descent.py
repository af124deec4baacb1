r"""Riemannian gradient descent, x ← R(x, −t grad f), with the step sizes of Barzilai & Borwein.

The step is that of `ufm.solvers.gradient_descent`, t = ⟨Δx, Δg⟩/‖Δg‖² with the chord Δx and the
difference of tangent gradients, halved until f falls sufficiently (Iannazzo & Porcelli, 2018).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.problem import Params, Problem, dot
from ufm.solvers._branches import either
from ufm.solvers._line_search import sufficient_decrease
from ufm.solvers._loop import FIRST_ORDER_PATIENCE, Point
from ufm.variants.norms.geometry import GEOMETRY

_MAX_HALVINGS = 60


class _Search(NamedTuple):
    point: Point
    step: Array
    tries: Array
    accepted: Array


class _State(NamedTuple):
    trial: Array
    started: Array


class GradientDescent:
    """The method, for the loop of all solvers."""

    default_max_steps = 50_000
    patience = FIRST_ORDER_PATIENCE
    init_products = 0
    evaluates_start = True
    balanced = False

    def gradient_noise(self, problem: Problem, params: Params) -> Array:
        return GEOMETRY.gradient_noise(problem, params)

    def init(self, problem: Problem, point: Point) -> _State:
        """The first step moves the start into the set."""
        return _State(jnp.ones_like(point.value), jnp.zeros((), bool))

    def step(self, problem: Problem, point: Point, state: _State) -> tuple[Point, Any, Array]:
        squared = dot(point.grad, point.grad)

        def attempt(search: _Search) -> _Search:
            size = jnp.where(search.tries == 0, search.step, 0.5 * search.step)
            step = jax.tree.map(lambda g: -size * g, point.grad)
            params = GEOMETRY.retract(problem, point.params, step)
            value, grad, _ = GEOMETRY.evaluate(problem, params)
            slope = -dot(grad, point.grad)
            fine = sufficient_decrease(point.value, value, -squared, slope, size) | ~state.started
            return _Search(Point(params, value, grad), size, search.tries + 1, fine)

        found = jax.lax.while_loop(
            lambda search: ~search.accepted & (search.tries < _MAX_HALVINGS),
            attempt,
            _Search(point, state.trial, jnp.zeros((), jnp.int32), jnp.zeros((), bool)),
        )
        # No step was accepted: stay, so that the loop ends the run as stalled.
        new = either(found.accepted, found.point, point)
        change, chord = (
            jax.tree.map(jnp.subtract, x, y)
            for x, y in ((new.grad, point.grad), (new.params, point.params))
        )
        along, curvature = dot(chord, change), dot(change, change)
        secant = jnp.where(along > 0, along / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        trial = jnp.where(secant > 0, secant, 2.0 * found.step)
        trial = jnp.where(found.accepted & state.started, trial, found.step)
        return new, _State(trial, jnp.ones((), bool)), found.tries
