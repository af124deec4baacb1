r"""Gradient descent with momentum: Polyak's heavy ball and Nesterov's acceleration.

    heavy ball   x⁺ = x − t ∇f(x) + 0.9 (x − x⁻)
    Nesterov     x⁺ = y − t ∇f(y),  y⁺ = x⁺ + k/(k+3) (x⁺ − x)

The step is t = 1/L with L the largest curvature ‖Δg‖/‖Δx‖ so far. Momentum in an ascent direction
is dropped (adaptive restart, O'Donoghue & Candès, 2015). If f exceeds its value at the last
restart, the step is halved and the run returns there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.problem import Params, Problem, dot, norm
from ufm.solvers._loop import FIRST_ORDER_PATIENCE, Point, evaluate

_HEAVY_BALL = 0.9


class _State(NamedTuple):
    velocity: Params
    age: Array
    lipschitz: Array
    anchor: Point


class _Momentum:
    default_max_steps = 50_000
    patience = FIRST_ORDER_PATIENCE
    init_products = 1
    evaluates_start = balanced = False

    def __init__(self, nesterov: bool) -> None:
        self.nesterov = nesterov

    def init(self, problem: Problem, point: Point) -> _State:
        """Estimate the curvature by a tiny step along the gradient."""
        size = norm(point.grad)
        reach = 1e-3 * (1.0 + norm(point.params)) / jnp.where(size > 0, size, 1.0)
        probe = evaluate(
            problem, jax.tree.map(lambda x, g: x - reach * g, point.params, point.grad)
        )
        change = norm(jax.tree.map(lambda a, b: a - b, probe.grad, point.grad))
        lipschitz = change / jnp.where(size > 0, reach * size, 1.0)
        zero = jax.tree.map(jnp.zeros_like, point.params)
        return _State(zero, jnp.zeros_like(point.value), lipschitz + 1e-12, point)

    def step(self, problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
        t = 1.0 / state.lipschitz
        if self.nesterov:
            # Here `velocity` is y − x, with x the last gradient step and y = point.
            moved = jax.tree.map(lambda v, g: v - t * g, state.velocity, point.grad)
            beta = (state.age + 1.0) / (state.age + 4.0)
            carried = jax.tree.map(lambda m: beta * m, moved)
            target = jax.tree.map(lambda y, g, c: y - t * g + c, point.params, point.grad, carried)
        else:
            carried = jax.tree.map(lambda v, g: _HEAVY_BALL * v - t * g, state.velocity, point.grad)
            target = jax.tree.map(lambda x, v: x + v, point.params, carried)
        new = evaluate(problem, target)
        shift = norm(jax.tree.map(lambda a, b: a - b, new.params, point.params))
        change = norm(jax.tree.map(lambda a, b: a - b, new.grad, point.grad))
        measured = change / jnp.where(shift > 0, shift, 1.0)
        lipschitz = jnp.maximum(measured, state.lipschitz)
        uphill = dot(new.grad, carried) > 0
        eps = float(jnp.finfo(new.value.dtype).eps)
        failed = ~(new.value <= state.anchor.value + 8 * eps * jnp.abs(state.anchor.value))
        rest = jax.tree.map(jnp.zeros_like, carried)
        velocity = jax.tree.map(lambda z, c: jnp.where(uphill | failed, z, c), rest, carried)
        point = jax.tree.map(lambda a, b: jnp.where(failed, a, b), state.anchor, new)
        anchor = jax.tree.map(lambda a, b: jnp.where(uphill & ~failed, a, b), new, state.anchor)
        lipschitz = jnp.where(failed, 2.0 * jnp.maximum(state.lipschitz, 1e-12), lipschitz)
        age = jnp.where(uphill | failed, 0.0, state.age + 1.0)
        return point, _State(velocity, age, lipschitz, anchor), jnp.ones((), jnp.int32)


heavy_ball = _Momentum(nesterov=False)
nesterov = _Momentum(nesterov=True)
