"""The loop all solvers share: one stopping rule, one history, one way to keep the best point.

A method is a pair of pure functions,

    init(problem, point) -> state
    step(problem, point, state) -> (point, state, products)

and never decides that it is done. A run has converged only when ‖∇f‖ ≤ tol; it has stalled when
neither f nor ‖∇f‖ has improved beyond rounding for `patience` steps.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ufm.model.evaluation import evaluated
from ufm.model.problem import Params, Problem, norm, value_and_gradient
from ufm.model.rounding import gradient_noise
from ufm.solvers._solution import HISTORY_LENGTH, History, Solution, Status

#: Steps without progress beyond rounding after which a run of a first-order method has stalled.
FIRST_ORDER_PATIENCE = 400

# Every step up to 128, then growing by a constant ratio up to 1e8; the last slot is the end.
_DENSE = 128
_SCHEDULE = np.unique(
    np.concatenate(
        [
            np.arange(_DENSE),
            np.geomspace(_DENSE, 1e8, HISTORY_LENGTH - 1 - _DENSE).astype(np.int64),
        ]
    )
)


class Point(NamedTuple):
    """A point with what has been computed there."""

    params: Params
    value: Array
    grad: Params


@runtime_checkable
class Method(Protocol):
    """One algorithm."""

    default_max_steps: int
    patience: int
    #: Gradient evaluations of `init`.
    init_products: int
    init: Callable[[Problem, Point], Any]
    step: Callable[[Problem, Point, Any], tuple[Point, Any, Array]]


class _Best(NamedTuple):
    params: Params
    value: Array
    grad_norm: Array


class _Run(NamedTuple):
    point: Point
    grad_norm: Array
    state: Any
    best: _Best
    status: Array
    step: Array
    products: Array
    # Value and gradient norm when progress was last seen, and the step of it.
    mark_value: Array
    mark_grad_norm: Array
    mark_step: Array
    history: History
    slot: Array


_RUNNING = -1


def evaluate(problem: Problem, params: Params) -> Point:
    """The point at `params`."""
    return Point(params, *value_and_gradient(problem, params))


@contextlib.contextmanager
def relaxed_promotion() -> Iterator[None]:
    """optax mixes integer and float widths; callers may run JAX in strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def run(
    method: Method,
    problem: Problem,
    params: Params,
    tol: Array,
    max_steps: Array,
    use_noise_floor: bool,
) -> Solution:
    """Iterate until converged, stalled, non-finite or out of steps. Pure and jit-compatible."""

    def tolerance(params: Params) -> Array:
        return (
            jnp.maximum(tol, gradient_noise(problem, evaluated(problem, params)))
            if use_noise_floor
            else tol
        )

    def advance(run: _Run) -> _Run:
        point, state, products = method.step(problem, run.point, run.state)
        grad_norm = norm(point.grad)
        eps = float(jnp.finfo(grad_norm.dtype).eps)
        noise = 4 * eps * jnp.abs(run.mark_value)
        progress = (point.value < run.mark_value - noise) | (grad_norm < 0.9 * run.mark_grad_norm)
        step = run.step + 1
        mark_step = jnp.where(progress, step, run.mark_step)
        finite = jnp.isfinite(point.value) & jnp.isfinite(grad_norm)
        status = jnp.where(
            ~finite,
            int(Status.NON_FINITE),
            jnp.where(
                grad_norm <= tolerance(point.params),
                int(Status.CONVERGED),
                jnp.where(
                    step - mark_step >= method.patience,
                    int(Status.STALLED),
                    jnp.where(step >= max_steps, int(Status.MAX_STEPS), _RUNNING),
                ),
            ),
        ).astype(jnp.int32)
        products = run.products + products
        history, slot = _record(run.history, run.slot, step, products, point.value, grad_norm)
        return _Run(
            point=point,
            grad_norm=grad_norm,
            state=state,
            best=_better(run.best, _Best(point.params, point.value, grad_norm), noise),
            status=status,
            step=step,
            products=products,
            mark_value=jnp.where(
                progress, jnp.minimum(point.value, run.mark_value), run.mark_value
            ),
            mark_grad_norm=jnp.where(
                progress, jnp.minimum(grad_norm, run.mark_grad_norm), run.mark_grad_norm
            ),
            mark_step=mark_step,
            history=history,
            slot=slot,
        )

    start = _start(method, problem, params, tolerance(params), max_steps)
    end = jax.lax.while_loop(lambda run: run.status == _RUNNING, advance, start)
    last = _Best(end.point.params, end.point.value, end.grad_norm)
    converged = end.status == int(Status.CONVERGED)
    chosen = jax.tree.map(lambda a, b: jnp.where(converged, a, b), last, end.best)
    history = _close(end.history, end.step, end.products, chosen)
    return Solution(
        params=chosen.params,
        value=chosen.value,
        grad_norm=chosen.grad_norm,
        num_steps=end.step,
        num_products=end.products,
        status=end.status,
        tol=tolerance(chosen.params),
        history=history,
    )


def _start(method: Method, problem: Problem, params: Params, tol: Array, max_steps: Array) -> _Run:
    point = evaluate(problem, params)
    grad_norm = norm(point.grad)
    finite = jnp.isfinite(point.value) & jnp.isfinite(grad_norm)
    status = jnp.where(
        ~finite,
        int(Status.NON_FINITE),
        jnp.where(
            grad_norm <= tol,
            int(Status.CONVERGED),
            jnp.where(max_steps <= 0, int(Status.MAX_STEPS), _RUNNING),
        ),
    ).astype(jnp.int32)
    zero, one = jnp.zeros((), jnp.int32), jnp.int32(1 + method.init_products)
    dtype = point.value.dtype
    blank = jnp.full(HISTORY_LENGTH, jnp.nan, dtype)
    none = jnp.full(HISTORY_LENGTH, -1, jnp.int32)
    history, slot = _record(
        History(none, none, blank, blank), zero, zero, one, point.value, grad_norm
    )
    return _Run(
        point=point,
        grad_norm=grad_norm,
        state=method.init(problem, point),
        best=_Best(params, point.value, grad_norm),
        status=status,
        step=zero,
        products=one,
        mark_value=point.value,
        mark_grad_norm=grad_norm,
        mark_step=zero,
        history=history,
        slot=slot,
    )


def _better(best: _Best, new: _Best, noise: Array) -> _Best:
    """The lower value; among values equal to rounding, the smaller gradient."""
    tie = jnp.abs(new.value - best.value) <= noise
    take = jnp.where(tie, new.grad_norm < best.grad_norm, new.value < best.value)
    take = take & jnp.isfinite(new.grad_norm)
    return jax.tree.map(lambda a, b: jnp.where(take, a, b), new, best)


def _record(history: History, slot: Array, step: Array, products: Array, value: Array, grad: Array):
    schedule = jnp.asarray(_SCHEDULE, jnp.int32)
    due = schedule[slot] == step

    def write(array: Array, entry: Array) -> Array:
        return array.at[slot].set(jnp.where(due, entry, array[slot]))

    written = History(
        write(history.step, step),
        write(history.products, products),
        write(history.value, value),
        write(history.grad_norm, grad),
    )
    return written, slot + due.astype(jnp.int32)


def _close(history: History, step: Array, products: Array, best: _Best) -> History:
    """Make the last entry the point returned, without repeating its step."""
    used = jnp.sum((history.step >= 0) & (history.step < step))

    def write(array: Array, entry: Array) -> Array:
        return array.at[used].set(entry)

    return History(
        write(history.step, step),
        write(history.products, products),
        write(history.value, best.value),
        write(history.grad_norm, best.grad_norm),
    )
