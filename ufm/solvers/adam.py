"""Adam (Kingma & Ba, 2015) with full gradients, by optax.

With a constant learning rate Adam circles a minimum at a distance of that rate. Here the rate
starts at 0.1 times the root mean square of the start (at least 1e-3) and is halved whenever
neither f nor the gradient norm has improved for 50 steps, so that a run can converge.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.problem import Problem, norm
from ufm.solvers._loop import FIRST_ORDER_PATIENCE, Point, evaluate, relaxed_promotion

default_max_steps = 50_000
patience = FIRST_ORDER_PATIENCE
init_products = 0
evaluates_start = balanced = False
_PATIENCE = 50


@functools.cache
def _transform() -> Any:
    # Imported where it is needed: it takes a tenth of a second.
    import optax

    # Gradients have no noise, so a long memory only delays convergence: 0.999 averages a thousand
    # steps and never settles. The usual eps of 1e-8 would dominate smaller gradients.
    return optax.scale_by_adam(b2=0.95, eps=1e-16)


class _State(NamedTuple):
    moments: Any
    rate: Array
    best_value: Array
    best_size: Array
    since: Array


def init(problem: Problem, point: Point) -> _State:
    typical = norm(point.params) / problem.num_parameters**0.5
    return _State(
        _transform().init(point.params),
        jnp.maximum(0.1 * typical, 1e-3),
        point.value,
        norm(point.grad),
        jnp.zeros((), jnp.int32),
    )


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    with relaxed_promotion():
        update, moments = _transform().update(point.grad, state.moments)
    params = jax.tree.map(lambda x, u: x - state.rate * u, point.params, update)
    new = evaluate(problem, params)
    size = norm(new.grad)
    eps = float(jnp.finfo(size.dtype).eps)
    lower = new.value < state.best_value - 4 * eps * jnp.abs(state.best_value)
    improved = lower | (size < 0.9 * state.best_size)
    since = jnp.where(improved, 0, state.since + 1)
    reduce = since >= _PATIENCE
    following = _State(
        moments,
        jnp.where(reduce, 0.5 * state.rate, state.rate),
        jnp.minimum(new.value, state.best_value),
        jnp.minimum(size, state.best_size),
        jnp.where(reduce, 0, since),  # a reduced rate gets its own fifty steps
    )
    return new, following, jnp.ones((), jnp.int32)
