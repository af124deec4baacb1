"""The loop of all solvers: one stopping rule, one history, one way to keep the best point.

A method is a pair of pure functions,

    init(problem, point) -> state
    step(problem, point, state) -> (point, state, products)

and never decides when to stop. A method that `evaluates_start` receives a point without value and
gradient, and computes them in its first step. Its program then evaluates f in one place, which
halves the code to compile. A method that is `balanced` works in the variables of `_balance`, while
gradient norms and tolerances are those of the original problem. A method for another gradient than
∇f has its own `gradient_noise(problem, params)`.

A run has converged only if ‖∇f‖ ≤ tol. It has stalled if neither f nor ‖∇f‖ has improved beyond
rounding for `patience` steps.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ufm.model.evaluation import evaluated
from ufm.model.objective import value_and_gradient
from ufm.model.problem import Params, Problem, norm
from ufm.model.rounding import gradient_noise
from ufm.solvers._balance import balance, balanced_problem, scaled
from ufm.solvers._branches import either
from ufm.solvers._solution import HISTORY_LENGTH, History, Solution, Status

#: A run of a first-order method stalls after this many steps without progress beyond rounding.
FIRST_ORDER_PATIENCE = 400

# Record every step up to 128, then at a constant ratio up to 1e8; the last slot is the end.
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
    """A point with its value and gradient."""

    params: Params
    value: Array
    grad: Params


@runtime_checkable
class Method(Protocol):
    """One algorithm."""

    default_max_steps: int
    patience: int
    #: Number of gradient evaluations in `init`.
    init_products: int
    evaluates_start: bool
    balanced: bool
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
    # Value and gradient norm at the last progress, and its step.
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
    """Allow implicit promotion: optax mixes number widths, and callers may set strict promotion."""
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

    original, beta = problem, jnp.ones((), params.W.dtype)
    if method.balanced:
        beta = balance(problem, params.W)
        problem = balanced_problem(problem, beta)
    params = scaled(params, 1.0 / beta)
    noise_of = noise_by(method)

    def tolerance(params: Params) -> Array:
        if not use_noise_floor:
            return tol
        return jnp.maximum(tol, noise_of(original, scaled(params, beta)))

    def note(run: _Run, point: Point, state: Any, products: Array) -> _Run:
        """Record one more step of the run, and decide whether it continues."""
        grad_norm = norm(scaled(point.grad, 1.0 / beta))
        eps = float(jnp.finfo(grad_norm.dtype).eps)
        noise = 4 * eps * jnp.abs(run.mark_value)
        progress = (point.value < run.mark_value - noise) | (grad_norm < 0.9 * run.mark_grad_norm)
        step = run.step + 1
        mark_step = jnp.where(progress, step, run.mark_step)
        status = jnp.where(
            ~(jnp.isfinite(point.value) & jnp.isfinite(grad_norm)),
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
        seen = _Best(point.params, point.value, grad_norm)
        take = (run.step < 0) | _is_better(run.best, seen, noise)
        return _Run(
            point=point,
            grad_norm=grad_norm,
            state=state,
            best=either(take, seen, run.best),
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

    start = _before_start(params)
    if method.evaluates_start:
        start = start._replace(state=method.init(problem, start.point))
    else:
        point = evaluate(problem, params)
        products = jnp.int32(1 + method.init_products)
        start = note(start, point, method.init(problem, point), products)
    end = jax.lax.while_loop(
        lambda run: run.status == _RUNNING,
        lambda run: note(run, *method.step(problem, run.point, run.state)),
        start,
    )
    last = _Best(end.point.params, end.point.value, end.grad_norm)
    chosen = either(end.status == int(Status.CONVERGED), last, end.best)
    return Solution(
        params=scaled(chosen.params, beta),
        value=chosen.value,
        grad_norm=chosen.grad_norm,
        num_steps=end.step,
        num_products=end.products,
        status=end.status,
        tol=tolerance(chosen.params),
        history=_close(end.history, end.step, end.products, chosen),
    )


def noise_by(method: Method) -> Callable[[Problem, Params], Array]:
    """An estimate from above of the rounding error of the gradient's norm, as a function."""
    return getattr(method, "gradient_noise", _gradient_noise)


def _gradient_noise(problem: Problem, params: Params) -> Array:
    return gradient_noise(problem, evaluated(problem, params))


def _before_start(params: Params) -> _Run:
    """A run of −1 steps, whose start has not been evaluated."""
    dtype = params.W.dtype
    zero, infinite = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, dtype)
    blank = jnp.full(HISTORY_LENGTH, jnp.nan, dtype)
    none = jnp.full(HISTORY_LENGTH, -1, jnp.int32)
    return _Run(
        point=Point(params, infinite, jax.tree.map(jnp.zeros_like, params)),
        grad_norm=infinite,
        state=None,
        best=_Best(params, infinite, infinite),
        status=jnp.int32(_RUNNING),
        step=zero - 1,
        products=zero,
        mark_value=infinite,
        mark_grad_norm=infinite,
        mark_step=zero,
        history=History(none, none, blank, blank),
        slot=zero,
    )


def _is_better(best: _Best, new: _Best, noise: Array) -> Array:
    """Whether `new` has the lower value, or if values agree to rounding the smaller gradient."""
    tie = jnp.abs(new.value - best.value) <= noise
    take = jnp.where(tie, new.grad_norm < best.grad_norm, new.value < best.value)
    return take & jnp.isfinite(new.grad_norm)


def _record(history: History, slot: Array, step: Array, products: Array, value: Array, grad: Array):
    schedule = jnp.asarray(_SCHEDULE, jnp.int32)
    due = schedule[slot] == step

    def write(array: Array, entry: Array) -> Array:
        return _with_entry(array, slot, jnp.where(due, entry, array[slot]))

    written = History(
        write(history.step, step),
        write(history.products, products),
        write(history.value, value),
        write(history.grad_norm, grad),
    )
    return written, slot + due.astype(jnp.int32)


def _with_entry(array: Array, slot: Array, value: Array) -> Array:
    """The array with another entry; JAX's `.at` takes longer to trace, to compile and to run."""
    return jax.lax.dynamic_update_slice(array, value[None], (slot,))


def _close(history: History, step: Array, products: Array, best: _Best) -> History:
    """Make the returned point the last entry, without repeating its step."""
    used = jnp.sum((history.step >= 0) & (history.step < step))

    def write(array: Array, entry: Array) -> Array:
        return _with_entry(array, used, entry)

    return History(
        write(history.step, step),
        write(history.products, products),
        write(history.value, best.value),
        write(history.grad_norm, best.grad_norm),
    )
