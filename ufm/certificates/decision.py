"""Decide on a point: the best proven bound, the tolerance of the gap, and the verdict."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import is_traced
from ufm.certificates.dual_bounds import duality_lower_bound, has_convex_region
from ufm.certificates.dual_state import Bound, DualState
from ufm.certificates.verdicts import Reason, Verdict
from ufm.collapse import symmetric_solution as symmetric
from ufm.model.objective import data_loss
from ufm.model.problem import Problem

Scalar = Float[Array, ""]

#: Default tolerance of the gap, relative to the depth.
RELATIVE_TOLERANCE = 1e-6
#: The depth is at least this fraction of f(0) − inf L, since f(0) = f* beyond the collapse
#: threshold.
LEAST_DEPTH = 1e-3
#: The default tolerance is at most the first fraction of f − inf L, but at least the second
#: fraction of f(0) − inf L, since f* = inf L is possible.
VALUE_TOLERANCE, LEAST_TOLERANCE = 1e-3, 1e-15


def tolerance(problem: Problem, value: Scalar, relative: Scalar) -> tuple[Scalar, Scalar]:
    """The largest gap of a global minimum, and the depth to which it is relative."""
    loss = problem.loss
    infimum = loss.infimum() or 0.0
    origin = _value_at_origin(problem, value.dtype)
    # A declared bound may be far below the loss, so the scale is at most that of the loss itself.
    height, excess = (
        jnp.minimum(x - infimum, jnp.abs(x)) if loss.declared else x - infimum
        for x in (origin, value)
    )
    if loss.declared:  # f(0) = f* = inf L is possible: there is nothing to be relative to
        height = jnp.where(origin > infimum, height, 1.0)
    depth = jnp.maximum(origin - value, LEAST_DEPTH * height)
    # At tiny decays f* is tiny, and so are the differences between critical points.
    small = jnp.maximum(VALUE_TOLERANCE * excess, LEAST_TOLERANCE * height)
    by_default = jnp.minimum(RELATIVE_TOLERANCE * depth, small)
    return jnp.where(jnp.isnan(relative), by_default, relative * depth), depth


def _value_at_origin(problem: Problem, dtype: Any) -> Scalar:
    """f(0) = g(0)."""
    return data_loss(problem, jnp.zeros((problem.num_outputs, problem.num_columns), dtype))


class Scalars(NamedTuple):
    """Numbers of a problem alone, the same at all points; None where they are not known yet."""

    #: `margin_lower_bound`.
    margin: Any = None
    #: `Loss.convex_above`.
    convex_above: Any = None


def known_scalars(problem: Problem, dtype: Any) -> Scalars:
    """The numbers that certificates of the problem need, computed on the host if it is known.

    In a program they would take longer than everything else, at each point anew.
    """
    leaves, structure = jax.tree.flatten(problem)
    if is_traced(leaves) or any(np.ndim(x) for x in leaves):
        return Scalars()
    found = _on_host(structure, tuple(map(float, leaves)))
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x, dtype)), found)


@functools.lru_cache(maxsize=256)
def _on_host(structure: Any, leaves: tuple[float, ...]) -> Scalars:
    problem = jax.tree.unflatten(structure, leaves)
    return Scalars(
        float(symmetric.margin_lower_bound(problem)) if _scalar_side(problem) else None,
        float(problem.loss.convex_above()) if has_convex_region(problem.loss) else None,
    )


def proven_bound(
    problem: Problem, columns: Problem, state: DualState, margin: Scalar | None = None
) -> Bound:
    """The best proven bound: by duality, or by a scalar problem where that may be better.

    `columns` is the problem that the state belongs to: this one, or that of its class means.
    `margin` is that of `Scalars`.
    """
    bound = duality_lower_bound(columns, state)
    if _scalar_side(problem):
        dtype = state.value.dtype
        scalar = margin
        if scalar is None:
            scalar = jnp.asarray(symmetric.margin_lower_bound(problem), dtype)
        # No term of the bound exceeds f(0), and the error of each is 1 + γ roundings.
        size = jnp.abs(scalar) + _value_at_origin(columns, dtype)
        steep = jnp.asarray(problem.loss.smoothness()[0], dtype)
        slack = 64 * float(jnp.finfo(dtype).eps) * steep * size + state.value_rounding
        best = ~(bound.lower >= scalar - slack)
        bound = Bound(
            *(jnp.where(best, x, y) for x, y in zip((scalar - slack, slack), bound, strict=True))
        )
    known = (state.mu > 0) & ~jnp.isnan(bound.lower)
    return Bound(jnp.where(known, bound.lower, -jnp.inf), bound.rounding)


def _scalar_side(problem: Problem) -> bool:
    loss = problem.loss
    bounded_better = loss.is_convex() and loss.has_conjugate
    return problem.per_class is not None and loss.contrastive and not bounded_better


def missing_bound(problem: Problem, by_margins: bool) -> Array:
    """The reason why no lower bound is known; GAP_OPEN if one is known, as `by_margins` says."""
    loss, bounded = problem.loss, jnp.int32(Reason.GAP_OPEN)
    if by_margins or loss.has_conjugate:
        return bounded
    if not loss.is_convex() or loss.infimum() is None:
        return jnp.int32(Reason.CONVEXITY_UNKNOWN)
    if not problem.has_bias:
        return bounded
    return jnp.where(jnp.asarray(problem.lam_b) == 0, jnp.int32(Reason.BIAS_UNBOUNDED), bounded)


class Facts(NamedTuple):
    """What a verdict depends on."""

    finite: Array
    refuted: Array
    decayed: Array
    critical: Array
    descends: Array
    closed: Array
    region_closed: Array
    resolvable: Array


def decide(problem: Problem, facts: Facts, missing: Array | None = None) -> tuple[Array, Array]:
    """Choose the verdict and reason of the first line that applies.

    `missing` is the reason why no lower bound is known; None: that of the plain model.
    """
    undecided = Verdict.UNDECIDED
    missing = missing_bound(problem, _scalar_side(problem)) if missing is None else missing
    lines = [
        (~facts.finite, undecided, Reason.NON_FINITE),
        (facts.refuted, undecided, Reason.DECLARATION_REFUTED),
        (facts.critical & facts.descends, Verdict.STRICT_SADDLE, Reason.NEGATIVE_CURVATURE),
        (
            facts.decayed & facts.closed & facts.resolvable,
            Verdict.GLOBAL_MINIMUM,
            Reason.GAP_CLOSED,
        ),
        (~facts.critical, Verdict.NOT_CRITICAL, Reason.GRADIENT_TOO_LARGE),
        (~facts.decayed, undecided, Reason.NO_DECAY),
        (
            facts.region_closed & facts.resolvable,
            Verdict.MINIMUM_ON_CONVEX_REGION,
            Reason.REGION_GAP_CLOSED,
        ),
        (missing != int(Reason.GAP_OPEN), undecided, missing),
        (~facts.resolvable, undecided, Reason.TOLERANCE_BELOW_ROUNDING),
    ]
    conditions = [line[0] for line in lines]
    verdict = jnp.select(conditions, [jnp.int32(line[1]) for line in lines], jnp.int32(undecided))
    reason = jnp.select(
        conditions, [jnp.int32(line[2]) for line in lines], jnp.int32(Reason.GAP_OPEN)
    )
    return verdict, reason


def judged(
    problem: Problem,
    value: Scalar,
    own: Scalar,
    bound: Bound,
    region: Bound,
    relative: Scalar,
    *,
    grad_norm: Scalar,
    critical_tol: Scalar,
    decayed: Array,
    descends: Array,
    refuted: Array | bool = False,
    columns: Problem | None = None,
    missing: Array | None = None,
) -> dict[str, Any]:
    """The verdict, its reason, and the numbers of the gap, as fields of a certificate.

    `own` is the rounding error of the value, `region` the bound on the region of convexity, and
    `refuted` says that the loss contradicts its declaration. The tolerance may be that of a problem
    of fewer `columns`; `missing` is that of `decide`.
    """
    gap, region_gap = value - bound.lower, value - region.lower
    # In exact arithmetic a gap is not negative, so that rounding is at most the gap itself.
    rounding, region_rounding = (
        jnp.maximum(jnp.minimum(allowed, jnp.abs(found)), own)
        for allowed, found in ((bound.rounding, gap), (region.rounding, region_gap))
    )
    tol, depth = tolerance(problem if columns is None else columns, value, relative)
    facts = Facts(
        finite=jnp.isfinite(value) & jnp.isfinite(grad_norm),
        # f is below its lower bound only if the bound rests on a false declaration.
        refuted=(gap < -own) | refuted,
        decayed=decayed,
        critical=grad_norm <= critical_tol,
        descends=descends,
        closed=gap <= tol,
        region_closed=(region_gap <= tol) & (tol >= region_rounding),
        resolvable=tol >= rounding,
    )
    verdict, reason = decide(problem, facts, missing)
    return {
        "verdict": verdict,
        "reason": reason,
        "value": value,
        "grad_norm": grad_norm,
        "lower_bound": bound.lower,
        "gap": gap,
        "region_gap": region_gap,
        "rounding": rounding,
        "tol": tol,
        "depth": depth,
        "critical_tol": critical_tol,
    }
