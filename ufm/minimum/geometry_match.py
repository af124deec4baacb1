r"""How far a point is from the predicted minimisers, whatever their geometry and size.

The three distances below are relative to the minimiser, so that loss and logits may have any units:
under MSE with targets of 1e-4 as under cross-entropy just below its collapse threshold, where the
minimiser is small, a point of the right size in the wrong place is no match.

    >>> compare_geometry(problem, solution.params).matches
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.collapse.metrics import nc_metrics
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.problem import Params, Problem, logits, matmul, penalty, without_loss

#: Roundings in units of eps that a gradient is taken to carry.
_ROUNDINGS = 64


@pytree()
class GeometryMatch(Shown):
    """How far a point is from the predicted minimisers, whatever their geometry and size.

    `logit_distance` = ‖V − V*‖_F / ‖W*H*‖_F, both up to a common shift of the logits where the loss
    ignores it; `classifier_distance` = ‖WWᵀ − W*W*ᵀ‖_F / max(‖W*W*ᵀ‖_F, ‖WWᵀ‖_F);
    `penalty_distance` is the difference of the penalties of W and H relative to the minimiser's,
    which sees features outside the row space of W. Where the minimiser is the origin, logits count
    relative to f*/μ, the most that any point no higher than the origin has, penalties relative to
    f*, and the classifier's distance is NaN. All are invariant under rotations and under the units
    of loss and logits. `nc2`, `nc3` are the values that the minimiser itself has: zero for a
    simplex ETF, √(2 − 2√((K−1)/K)) for the orthogonal frame of MSE without bias, NaN at the origin.

    `matches` is None where no minimiser is known, where two tie (`GlobalMinimum.tied`), and where
    rounding decides: the minimiser's penalties are so small a part of f* that it cannot be told
    from the origin. False says that the point is not the predicted minimiser.
    """

    logit_distance: float
    classifier_distance: float
    penalty_distance: float
    nc2: float
    nc3: float
    kind: str = static()
    matches: bool | None = static()

    _printed = ("matches", "kind", "logit_distance", "classifier_distance", "penalty_distance")


def compare_geometry(
    problem: Problem,
    params: Params,
    minimum: GlobalMinimum | None = None,
    tol: float = 1e-3,
) -> GeometryMatch:
    """Did the point reach the predicted geometry? Knows when the right answer is no simplex ETF."""
    minimum = minimum or global_minimum(problem)
    if minimum.kind == "unknown":
        nan = float("nan")
        return GeometryMatch(nan, nan, nan, nan, nan, "unknown", None)
    target = minimum.params(jax.random.key(0), params.W.dtype)
    shift_invariant = problem.loss.shift_invariant
    found = _distances(
        without_loss(problem), params, target, minimum.value, shift_invariant=shift_invariant
    )
    logit_distance, classifier_distance, penalty_distance, nc2, nc3, share = map(float, found)
    distances = logit_distance, penalty_distance
    if minimum.rank:  # the origin has no Gram matrix to compare
        distances += (classifier_distance,)
    # Rounding moves gradients by eps, and logits by as much of f*/μ, of which they are `share`.
    noise = _ROUNDINGS * float(jnp.finfo(params.W.dtype).eps)
    is_resolved = share * tol >= noise if minimum.rank else minimum.value > 0
    matches = all(x <= tol for x in distances) if is_resolved and not minimum.tied else None
    return GeometryMatch(
        logit_distance, classifier_distance, penalty_distance, nc2, nc3, minimum.kind, matches
    )


@functools.partial(jax.jit, static_argnames="shift_invariant")
def _distances(
    problem: Problem,
    params: Params,
    target: Params,
    value: Float[Array, ""] | float,
    *,
    shift_invariant: bool,
) -> tuple[Float[Array, ""], ...]:
    """The numbers of a `GeometryMatch`, in its order, and the penalties of W* and H* over f*."""
    predicted = nc_metrics(problem, target)
    V, V_star = logits(problem, params), logits(problem, target)
    Z_star = logits(problem, Params(target.W, target.H, None))
    if shift_invariant:
        V, V_star, Z_star = (x - jnp.mean(x, axis=0, keepdims=True) for x in (V, V_star, Z_star))
    here, there = (penalty(problem, Params(x.W, x.H, None)) for x in (params, target))
    value = jnp.asarray(value, V.dtype)
    at_origin = there == 0
    logit_size = jnp.where(at_origin, value / problem.mu(V.dtype), jnp.linalg.norm(Z_star))
    gram, gram_star = matmul(params.W, params.W.T), matmul(target.W, target.W.T)
    gram_size = jnp.maximum(jnp.linalg.norm(gram_star), jnp.linalg.norm(gram))
    return (
        jnp.linalg.norm(V - V_star) / logit_size,
        jnp.where(at_origin, jnp.nan, jnp.linalg.norm(gram - gram_star) / gram_size),
        jnp.abs(here - there) / jnp.where(at_origin, value, there),
        predicted.nc2,
        predicted.nc3,
        there / value,
    )
