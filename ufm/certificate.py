r"""What a point is: global minimum, strict saddle, or honestly undecided.

    gap = f(point) − (lower bound on f*)        rounding included, at any point, critical or not

closes the question from above: GLOBAL_MINIMUM means gap ≤ tol and no descent direction found. The
lower bound comes from convex duality (`ufm.duality`) for convex losses and from the scalar bound
of `ufm.symmetric` for the focal loss with balanced classes.

STRICT_SADDLE and LOCAL_MINIMUM rest on curvature (`ufm.curvature`), and are numerical statements
about an exact critical point nearby. Whatever is not proved is UNDECIDED, with the reason.

    >>> certificate = certify(problem, solution.params)
    >>> certificate.verdict, certificate.gap
"""

import dataclasses
import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ufm import symmetric
from ufm._pytree import pytree, require
from ufm.curvature import Escape, escape_direction, is_descent, is_local_minimum
from ufm.duality import Bound, DualState, dual_state, duality_lower_bound, region_lower_bound
from ufm.problem import Params, Problem, check_shapes, data_loss, norm
from ufm.rounding import gradient_noise

Scalar = Float[Array, ""]

#: Default tolerance of the gap, relative to f(0) − f*.
RELATIVE_TOLERANCE = 1e-6
#: By default the gap may not exceed this fraction of f either.
VALUE_TOLERANCE = 1e-3


class Verdict(enum.IntEnum):
    """What was proved about a point."""

    GLOBAL_MINIMUM = 0
    MINIMUM_ON_CONVEX_REGION = 1
    STRICT_SADDLE = 2
    LOCAL_MINIMUM = 3
    NOT_CRITICAL = 4
    UNDECIDED = 5


class Reason(enum.IntEnum):
    """Why the verdict is what it is; `REASONS` has the sentences."""

    GAP_CLOSED = 0
    REGION_GAP_CLOSED = 1
    NEGATIVE_CURVATURE = 2
    GRADIENT_TOO_LARGE = 3
    GAP_OPEN = 4
    CONVEXITY_UNKNOWN = 5
    NO_DECAY = 6
    TOLERANCE_BELOW_ROUNDING = 7
    NON_FINITE = 8
    BIAS_UNBOUNDED = 9
    ALL_CURVATURES_POSITIVE = 10
    LOCAL_AGAINST_THEORY = 11


REASONS = {
    Reason.GAP_CLOSED: "f exceeds a proven lower bound by no more than the tolerance",
    Reason.REGION_GAP_CLOSED: (
        "every sample has p_y > p*, where the loss is convex, and the gap over that region is "
        "within the tolerance; a lower value elsewhere is not excluded"
    ),
    Reason.NEGATIVE_CURVATURE: (
        "critical, and a Hessian product along the escape direction is negative (numerical)"
    ),
    Reason.GRADIENT_TOO_LARGE: (
        "the gradient is too large for a critical point: run a solver from here"
    ),
    Reason.GAP_OPEN: (
        "critical, but the lower bound does not reach f and no direction of descent was found"
    ),
    Reason.CONVEXITY_UNKNOWN: (
        "no lower bound is known for this loss and these class counts (a custom loss needs "
        "convex=True and a lower_bound; the focal loss needs balanced classes)"
    ),
    Reason.NO_DECAY: "with lam_w or lam_h = 0 a minimum may not exist and nothing bounds f",
    Reason.TOLERANCE_BELOW_ROUNDING: (
        "the tolerance is below the rounding error of the gap: use float64 or a larger tol"
    ),
    Reason.NON_FINITE: "the point or the loss there is not finite",
    Reason.BIAS_UNBOUNDED: (
        "no lower bound is known for a custom loss with a free bias: use lam_b > 0"
    ),
    Reason.ALL_CURVATURES_POSITIVE: (
        "critical, and exact counts find all Hessian eigenvalues positive but the zeros that "
        "rotations force (numerical); a lower value elsewhere is not excluded"
    ),
    Reason.LOCAL_AGAINST_THEORY: (
        "critical with all curvatures but the rotations' positive, yet the gap is open. For this "
        "loss and dimension every local minimum is global: either tol is below the accuracy of "
        "the point, or this is a COUNTEREXAMPLE worth a second look"
    ),
}


@pytree()
class Certificate:
    """The proof and its numbers.

    `gap = value − lower_bound` bounds f − f* and includes `rounding`, a bound on its own error.
    `tol` is absolute. `region_gap` bounds f minus its minimum over the convex region of the focal
    loss. `verdict` is a `Verdict` and `reason` a `Reason`, or their integer codes in a batch.
    """

    verdict: Any
    reason: Any
    value: Float[Array, "*batch"]
    grad_norm: Float[Array, "*batch"]
    dual_norm: Float[Array, "*batch"]
    threshold: Float[Array, "*batch"]
    lower_bound: Float[Array, "*batch"]
    gap: Float[Array, "*batch"]
    region_gap: Float[Array, "*batch"]
    rounding: Float[Array, "*batch"]
    tol: Float[Array, "*batch"]
    critical_tol: Float[Array, "*batch"]
    escape: Escape

    @property
    def dtype(self) -> Any:
        """The precision in which all of it was computed."""
        return self.value.dtype

    def explain(self) -> str:
        """One or two sentences for a single point."""
        verdict, reason = Verdict(int(self.verdict)), Reason(int(self.reason))
        text = f"{verdict.name} ({self.dtype}): {REASONS[reason]}. "
        text += (
            f"f = {float(self.value):.10g}, gap {float(self.gap):.2e} (tol {float(self.tol):.1e})"
        )
        text += f", ‖∇f‖ = {float(self.grad_norm):.1e}"
        text += f", ‖G‖₂/μ = {float(self.dual_norm / self.threshold):.10g}"
        if verdict is Verdict.STRICT_SADDLE:
            text += f", curvature {float(self.escape.curvature):.3e} along the escape direction"
        return text + "."


def certify(problem: Problem, params: Params, tol: float | Scalar | None = None) -> Certificate:
    """Decide what a point is, and prove it. Maps over batches of points with `jax.vmap`.

    `tol` is the largest gap, relative to f(0) − f*, that counts as a global minimum; one below
    the rounding error is refused (UNDECIDED). `None` is 1e-6, lowered to a gap of 1e-3 f where that
    is smaller (tiny decays) and raised to four times the rounding error where that is larger
    (float32). Points of any origin: `params` need not be a solution.
    For a single point of moderate size that would stay undecided, all curvatures are counted
    (`ufm.inertia`), which can make it a LOCAL_MINIMUM; in a batch that is left out.
    """
    check_shapes(problem, params)
    check_tolerance(tol)
    relative = jnp.asarray(jnp.nan if tol is None else tol, params.W.dtype)
    found = _certify(problem, params, relative)
    if isinstance(found.verdict, Tracer):
        return found
    verdict, reason = Verdict(int(found.verdict)), Reason(int(found.reason))
    if (
        verdict is Verdict.UNDECIDED
        and reason in _OPEN
        and is_local_minimum(problem, params, float(found.grad_norm))
    ):
        verdict = Verdict.LOCAL_MINIMUM
        # Without a bound a minimum cannot be told from a counterexample.
        no_spurious = reason is Reason.GAP_OPEN and _no_spurious_minima(problem)
        reason = Reason.LOCAL_AGAINST_THEORY if no_spurious else Reason.ALL_CURVATURES_POSITIVE
    return dataclasses.replace(found, verdict=verdict, reason=reason)


def check_tolerance(tol: float | Scalar | None) -> None:
    """Raise `ValueError` for a gap tolerance that `certify` does not take."""
    if tol is not None:
        require("tol", tol, lambda x: (x >= 0) & (x < 1), "in [0, 1), relative to f(0) − f*")


#: Reasons after which a look at all curvatures can still say something.
_OPEN = (Reason.GAP_OPEN, Reason.CONVEXITY_UNKNOWN, Reason.BIAS_UNBOUNDED)


def _no_spurious_minima(problem: Problem) -> bool:
    """Does the theory exclude local minima that are not global?"""
    loss, needed = problem.loss, problem.num_classes
    free_bias = problem.lam_b is not None and float(problem.lam_b) == 0
    if loss.shift_invariant or (loss.has_conjugate and free_bias):
        needed -= 1
    return bool(loss.is_convex()) and problem.dim >= needed


@jax.jit
def _certify(problem: Problem, params: Params, relative: Scalar) -> Certificate:
    state = dual_state(problem, params)
    bound, region = _lower_bound(problem, state), region_lower_bound(problem, state)
    lower_bound, rounding = bound
    gap, region_gap = state.value - lower_bound, state.value - region.lower
    origin = data_loss(problem, jnp.zeros_like(state.V))
    depth = jnp.maximum(origin - jnp.where(jnp.isfinite(lower_bound), lower_bound, 0.0), 0.0)
    # At tiny decays f* itself is tiny, and so are the differences between critical points.
    by_default = jnp.minimum(RELATIVE_TOLERANCE * depth, VALUE_TOLERANCE * jnp.abs(state.value))
    by_default = jnp.maximum(by_default, 4 * rounding)
    tol = jnp.where(jnp.isnan(relative), by_default, relative * depth)
    critical_tol = jnp.maximum(
        1e-6 * state.mu * jnp.maximum(norm(params), 1.0), 4 * gradient_noise(problem, params)
    )
    escape, image = escape_direction(problem, state)
    facts = _Facts(
        finite=jnp.isfinite(state.value) & jnp.isfinite(state.grad_norm),
        decayed=state.mu > 0,
        critical=state.grad_norm <= critical_tol,
        descends=is_descent(problem, state, escape, image),
        closed=gap <= tol,
        region_closed=(region_gap <= tol) & (tol > region.rounding),
        resolvable=tol > rounding,
    )
    verdict, reason = _decide(problem, facts)
    return Certificate(
        verdict=verdict,
        reason=reason,
        value=state.value,
        grad_norm=state.grad_norm,
        dual_norm=state.dual_norm,
        threshold=state.mu,
        lower_bound=lower_bound,
        gap=gap,
        region_gap=region_gap,
        rounding=rounding,
        tol=tol,
        critical_tol=critical_tol,
        escape=escape,
    )


def _lower_bound(problem: Problem, state: DualState) -> Bound:
    """The best proven bound: duality where g is convex, the scalar side for the focal loss."""
    bound = duality_lower_bound(problem, state)
    if _scalar_side(problem):
        dtype = state.value.dtype
        scalar = symmetric.margin_lower_bound(problem).astype(dtype)
        eps = float(jnp.finfo(dtype).eps)
        slack = 64 * eps * (jnp.abs(scalar) + 1.0) + state.value_rounding
        bound = Bound(scalar - slack, slack)
    return Bound(jnp.where(state.mu > 0, bound.lower, -jnp.inf), bound.rounding)


def _scalar_side(problem: Problem) -> bool:
    loss = problem.loss
    return problem.per_class is not None and loss.contrastive and not loss.is_convex()


def _missing_bound(problem: Problem) -> Array:
    """The code of why nothing can bound f from below; GAP_OPEN where something does."""
    loss, bounded = problem.loss, jnp.int32(Reason.GAP_OPEN)
    if _scalar_side(problem) or (loss.is_convex() and loss.has_conjugate):
        return bounded
    if not loss.is_convex() or loss.infimum() is None:
        return jnp.int32(Reason.CONVEXITY_UNKNOWN)
    if not problem.has_bias:
        return bounded
    return jnp.where(jnp.asarray(problem.lam_b) == 0, jnp.int32(Reason.BIAS_UNBOUNDED), bounded)


class _Facts(NamedTuple):
    finite: Array
    decayed: Array
    critical: Array
    descends: Array
    closed: Array
    region_closed: Array
    resolvable: Array


def _decide(problem: Problem, facts: _Facts) -> tuple[Array, Array]:
    """The first line that applies decides."""
    undecided, missing = Verdict.UNDECIDED, _missing_bound(problem)
    lines = [
        (~facts.finite, undecided, Reason.NON_FINITE),
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
