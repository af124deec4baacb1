"""Limited-memory BFGS by optax, with its zoom line search (Nocedal & Wright, 2006, alg. 3.5).

Where values no longer resolve the decrease, the line search uses the approximate Wolfe condition,
so that it can reach gradients near rounding. Internally the parameters are one flat vector, because
a tree of three arrays triples the work of tracing and compiling.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ufm.model.objective import value_and_gradient
from ufm.model.problem import Params, Problem
from ufm.solvers._loop import FIRST_ORDER_PATIENCE, Point, relaxed_promotion

default_max_steps = 10_000
patience = FIRST_ORDER_PATIENCE
init_products = 0
evaluates_start = balanced = False


@functools.cache
def _solver() -> Any:
    # Imported where it is needed: it takes a tenth of a second.
    import optax

    line_search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=30, initial_guess_strategy="one", approx_dec_rtol=1e-6
    )
    return optax.lbfgs(memory_size=20, linesearch=line_search)


def _flat_objective(problem: Problem, params: Params):
    _, unravel = ravel_pytree(params)

    @jax.custom_vjp
    def value(x: Array) -> Array:
        return value_and_gradient(problem, unravel(x))[0]

    def forward(x: Array):
        found, grad = value_and_gradient(problem, unravel(x))
        return found, ravel_pytree(grad)[0]

    value.defvjp(forward, lambda grad, tangent: (tangent * grad,))
    return value, unravel


def init(problem: Problem, point: Point) -> Any:
    """The state of optax."""
    del problem
    return _solver().init(ravel_pytree(point.params)[0])


def step(problem: Problem, point: Point, state: Any) -> tuple[Point, Any, Array]:
    import optax.tree_utils as otu

    objective, unravel = _flat_objective(problem, point.params)
    x, g = ravel_pytree(point.params)[0], ravel_pytree(point.grad)[0]
    with relaxed_promotion():
        change, state = _solver().update(g, state, x, value=point.value, grad=g, value_fn=objective)
    value, grad, info = (otu.tree_get(state, name) for name in ("value", "grad", "info"))
    new = Point(unravel(x + jnp.asarray(change)), value, unravel(grad))
    return new, state, info.num_linesearch_steps.astype(jnp.int32)
