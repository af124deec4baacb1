r"""Find critical points of any index: roots of ∇f, by Levenberg–Marquardt on ½‖∇f‖².

With g = ∇f and H = ∇²f the step is

    p = −H (H² + σ²I)^{-1} g = −Re (H + iσI)^{-1} g,      σ = min(‖g‖, σ_max 2^{−step/50}),

a descent direction of ½‖g‖² for any signs of the eigenvalues of H, so that saddles attract like
minima. Critical points form orbits under rotations, on which H is singular, and the distance to
them is at most a constant times ‖g‖. Under this condition σ ~ ‖g‖ converges quadratically
(Yamashita & Fukushima, 2001; Fan & Yuan, 2005). The resolvent is exact: see
`ufm.landscape.resolvent`.

½‖g‖² has stationary points that are not roots: Hg = 0 with g ≠ 0, "gradient-flat" points (Frye et
al., 2021). A run that ends at one has the status GRADIENT_FLAT; the point is not critical.

    >>> found = find_roots(problem, init_params(problem, key, num_starts=2))
    >>> bool(jnp.all(found.grad_norm < 1e-10))
    True
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ufm._support.pytree import entry, pytree, stacked
from ufm._support.shown import Shown
from ufm._support.threads import in_order, one_blas_thread
from ufm.landscape.resolvent import hessian_blocks, real_resolvent
from ufm.model.hessian_product import hessian_product, linearise
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params, along, dot, norm
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: Largest gradient norm of a critical point.
CRITICAL = 1e-10
#: Below that a run continues while every step halves the gradient, down to this fraction of it.
_GOAL = 1e-4
#: A point is gradient-flat if ‖Hg‖ is at most this fraction of (λ_W + λ_H)‖g‖ and g is not small.
_FLAT = 1e-6
#: Sufficient decrease of ‖g‖² and the shortest step (Nocedal & Wright, section 3.1).
_ARMIJO, _SHORTEST = 1e-4, 1e-8
MOST_STEPS = 500
#: Number of steps in which σ_max halves.
_HALF_LIFE = 50.0


class RootStatus(enum.IntEnum):
    """The end of a search."""

    CRITICAL = 0
    GRADIENT_FLAT = 1
    MAX_STEPS = 2
    STALLED = 3


@pytree()
class Roots(Shown):
    """Results of searches; every array has a leading axis. `status` has codes of `RootStatus`."""

    params: Params
    grad_norm: Float[Array, "*batch"]
    num_steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]


class _State(NamedTuple):
    params: Params
    gradient: Params
    size: Array
    steps: Array
    going: Array
    status: Array


@by_variant
def find_roots(
    problem: Problem,
    starts: Params,
    *,
    most: Float[np.ndarray, " starts"] | float | None = None,
    max_steps: int = MOST_STEPS,
    on_done: Callable[[int], None] | None = None,
) -> Roots:
    """Search for a root of ∇f from every start of a batch.

    Args:
        problem: The problem.
        starts: Points with a leading axis over the starts.
        most: σ_max of the step −Re(∇²f + iσ)⁻¹∇f, one number or one for each start. If it is small,
            the first steps are long and can end anywhere; if it is large, they follow the flow of
            −∇½‖∇f‖². None is λ_W + λ_H.
        max_steps: Largest number of steps.
        on_done: Called with the number of each finished start.

    Returns:
        The end point of every search, its gradient norm, and its status.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    count = int(starts.W.shape[0])
    caps = float(problem.lam_w + problem.lam_h) if most is None else most
    caps = np.broadcast_to(np.asarray(caps, float), (count,))

    def one(i: int) -> Roots:
        found = _find_root(problem, entry(starts, i), caps[i], jnp.int32(max_steps))
        return jax.block_until_ready(found)

    with one_blas_thread():
        return stacked(list(in_order(one, count, on_done)))


@jax.jit
def _find_root(
    problem: Problem, start: Params, most: Float[Array, ""], max_steps: Int[Array, ""]
) -> Roots:
    _, gradient = value_and_gradient(problem, start)
    size = norm(gradient)
    zero = jnp.zeros((), jnp.int32)
    state = _State(start, gradient, size, zero, size > CRITICAL * _GOAL, zero)

    def advance(state: _State) -> _State:
        return _step(problem, state, most, max_steps)

    end = jax.lax.while_loop(lambda state: state.going, advance, state)
    status = jnp.where(end.size <= CRITICAL, int(RootStatus.CRITICAL), end.status)
    return Roots(end.params, end.size, end.steps, status)


def _step(problem: Problem, state: _State, most: Array, max_steps: Array) -> _State:
    params, gradient, size = state.params, state.gradient, state.size
    image = hessian_product(problem, linearise(problem, params), gradient)
    flat = norm(image) <= _FLAT * jnp.asarray(problem.lam_w + problem.lam_h, size.dtype) * size
    # Halved regularly, so that a run that follows the flow for long converges in the end.
    shift = jnp.minimum(size, most * jnp.exp2(-state.steps.astype(size.dtype) / _HALF_LIFE))
    step = real_resolvent(hessian_blocks(problem, params), shift, gradient)
    slope = -2.0 * dot(step, image)

    def evaluate(length: Array) -> tuple[Params, Params, Array]:
        point = along(-length, step, params)
        _, new = value_and_gradient(problem, point)
        return point, new, norm(new)

    def too_long(trial: tuple[Array, Any]) -> Array:
        length, (_, _, new) = trial
        enough = new**2 <= size**2 + _ARMIJO * length * slope
        return ~enough & (length > _SHORTEST)  # NaN included

    def halve(trial: tuple[Array, Any]) -> tuple[Array, Any]:
        length = 0.5 * trial[0]
        return length, evaluate(length)

    one = jnp.ones_like(size)
    length, (point, new_gradient, new) = jax.lax.while_loop(too_long, halve, (one, evaluate(one)))
    better = new < size
    point, new_gradient, new = jax.tree.map(
        lambda a, b: jnp.where(better, a, b), (point, new_gradient, new), (params, gradient, size)
    )
    steps = state.steps + 1
    stalled = (length <= _SHORTEST) | ~better
    # Below the tolerance the run continues only while it converges fast.
    done = (new <= CRITICAL) & ((new > 0.5 * size) | (new <= CRITICAL * _GOAL))
    flat = flat & (size > CRITICAL)
    codes = jnp.select(
        [flat, stalled, steps >= max_steps],
        [
            jnp.int32(RootStatus.GRADIENT_FLAT),
            jnp.int32(RootStatus.STALLED),
            jnp.int32(RootStatus.MAX_STEPS),
        ],
        jnp.int32(RootStatus.CRITICAL),
    )
    going = ~(done | flat | stalled | (steps >= max_steps))
    return _State(point, new_gradient, new, steps, going, codes)
