r"""What a point is: global minimum, strict saddle, or honestly undecided.

    gap = f(point) − (lower bound on f*)        rounding included, at any point, critical or not

closes the question from above: GLOBAL_MINIMUM means gap ≤ tol and no descent direction found. The
lower bound comes from convex duality (`ufm.duality`) for convex losses and from the scalar bound
of `ufm.symmetric` for the focal loss with balanced classes.

At a critical point with ‖G‖₂ > μ and rank W < d the direction

    Δ_W = −(λ_H/λ_W)^{1/4} u aᵀ,  Δ_H = (λ_W/λ_H)^{1/4} a vᵀ,  a ⟂ row(W),  (u, v) top pair of G

has ΔᵀHΔ = −2(‖G‖₂ − μ) (Zhou et al., 2022). Here it is a candidate: STRICT_SADDLE is claimed only
when a Hessian product confirms the negative curvature, and only when that curvature is too large
to be an artefact of the remaining gradient: κ² > 16 ‖∇f‖ L, with L a bound on the third derivative
(the Newton–Kantorovich condition in the direction of escape). It is a numerical statement about
an exact critical point nearby.

    >>> certificate = certify(problem, solution.params)
    >>> certificate.verdict, certificate.gap
"""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ufm import symmetric
from ufm._pytree import pytree
from ufm.duality import DualState, dual_state, duality_lower_bound, region_lower_bound
from ufm.hessian import hvp
from ufm.problem import (
    Params,
    Problem,
    check_shapes,
    data_loss,
    dot,
    features,
    gradient_noise,
    matmul,
    norm,
)

Scalar = Float[Array, ""]

#: Default tolerance of the gap, relative to f(0) − f*.
RELATIVE_TOLERANCE = 1e-6


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
}


@pytree()
class Escape:
    """A unit direction, the curvature along it from a Hessian product, and the theory's value.

    `predicted` is −2(‖G‖₂−μ)μ/(λ_W+λ_H), which holds at critical points with rank W < d.
    """

    direction: Params
    curvature: Float[Array, "*batch"]
    predicted: Float[Array, "*batch"]


@pytree()
class Certificate:
    """The proof and its numbers.

    `gap = value − lower_bound` bounds f − f* and includes `rounding`, a bound on the error of f.
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


def certify(problem: Problem, params: Params, tol: float | None = None) -> Certificate:
    """Decide what a point is, and prove it. Maps over batches of points with `jax.vmap`.

    `tol` is the largest gap, relative to f(0) − f*, that counts as a global minimum; one below
    the rounding error is refused (UNDECIDED). `None` is 1e-6, raised to four times the rounding
    error where that is larger (float32). Points of any origin: `params` need not be a solution.
    """
    check_shapes(problem, params)
    relative = -1.0 if tol is None else tol
    found = _certify(problem, params, jnp.asarray(relative, params.W.dtype))
    if not isinstance(found.verdict, Tracer):
        object.__setattr__(found, "verdict", Verdict(int(found.verdict)))
        object.__setattr__(found, "reason", Reason(int(found.reason)))
    return found


@jax.jit
def _certify(problem: Problem, params: Params, relative: Scalar) -> Certificate:
    state = dual_state(problem, params)
    rounding = state.value_rounding
    lower_bound = _lower_bound(problem, state)
    gap = state.value - lower_bound
    region_gap = state.value - region_lower_bound(problem, state)
    origin = data_loss(problem, jnp.zeros_like(state.V))
    depth = jnp.maximum(origin - jnp.where(jnp.isfinite(lower_bound), lower_bound, 0.0), 0.0)
    by_default = jnp.maximum(RELATIVE_TOLERANCE * depth, 4 * rounding)
    tol = jnp.where(relative < 0, by_default, relative * depth)
    critical_tol = jnp.maximum(
        1e-6 * state.mu * jnp.maximum(norm(params), 1.0), 4 * gradient_noise(problem, params)
    )
    escape = _escape(problem, state)
    facts = _Facts(
        finite=jnp.isfinite(state.value) & jnp.isfinite(state.grad_norm),
        decayed=state.mu > 0,
        critical=state.grad_norm <= critical_tol,
        descends=_confirmed(problem, state, escape),
        closed=gap <= tol,
        region_closed=region_gap <= tol,
        bounded=jnp.isfinite(lower_bound),
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


def _lower_bound(problem: Problem, state: DualState) -> Scalar:
    """The best proven bound; its own rounding and that of f at the point are taken off."""
    bound = duality_lower_bound(problem, state)
    scalar_side = problem.per_class is not None and problem.loss.contrastive
    if not problem.loss.is_convex() and scalar_side:
        dtype = state.value.dtype
        scalar = symmetric.margin_lower_bound(problem).astype(dtype)
        eps = float(jnp.finfo(dtype).eps)
        slack = 64 * eps * (jnp.abs(scalar) + 1.0) + state.value_rounding
        bound = jnp.maximum(bound, scalar - slack)
    return jnp.where(state.mu > 0, bound, -jnp.inf)


class _Facts(NamedTuple):
    finite: Array
    decayed: Array
    critical: Array
    descends: Array
    closed: Array
    region_closed: Array
    bounded: Array
    resolvable: Array


def _decide(problem: Problem, facts: _Facts) -> tuple[Array, Array]:
    """The first line that applies decides."""
    free_custom = problem.has_bias and problem.loss.is_convex() and not problem.loss.has_conjugate
    unbounded = Reason.BIAS_UNBOUNDED if free_custom else Reason.CONVEXITY_UNKNOWN
    undecided = Verdict.UNDECIDED
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
        (~facts.bounded, undecided, unbounded),
        (~facts.resolvable, undecided, Reason.TOLERANCE_BELOW_ROUNDING),
    ]
    conditions = [line[0] for line in lines]
    verdict = jnp.select(conditions, [jnp.int32(line[1]) for line in lines], jnp.int32(undecided))
    reason = jnp.select(
        conditions, [jnp.int32(line[2]) for line in lines], jnp.int32(Reason.GAP_OPEN)
    )
    return verdict, reason


def _escape(problem: Problem, state: DualState) -> Escape:
    dtype = state.value.dtype
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))
    positive = state.mu > 0
    balance = jnp.where(positive, lam_h / jnp.where(positive, lam_w, 1.0), 1.0) ** 0.25
    a = _outside_row_space(state.params.W)
    raw = Params(
        -balance * jnp.outer(state.top_left, a),
        jnp.outer(a, state.top_right) / balance,
        None if state.params.b is None else jnp.zeros_like(state.params.b),
    )
    size = norm(raw)
    direction = jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1.0), raw)
    curvature = dot(direction, hvp(problem, state.params, direction))
    total = lam_w + lam_h
    predicted = -2.0 * (state.dual_norm - state.mu) * state.mu / jnp.where(total > 0, total, 1.0)
    return Escape(direction, curvature, predicted)


def _outside_row_space(W: Float[Array, "K d"]) -> Float[Array, " d"]:
    """A unit vector orthogonal to the rows of W, or as nearly so as there is."""
    classes, dim = W.shape
    _, sizes, rows = jnp.linalg.svd(W, full_matrices=False)
    if dim <= classes:
        return rows[-1]
    # Start from the coordinate axis farthest from the row space, and project it twice.
    present = sizes > sizes[0] * (float(jnp.finfo(W.dtype).eps) * dim)
    basis = jnp.where(present[:, None], rows, 0.0)
    a = jax.nn.one_hot(jnp.argmin(jnp.sum(basis**2, axis=0)), dim, dtype=W.dtype)
    for _ in range(2):
        a = a - matmul(matmul(basis, a), basis)
    return a / jnp.linalg.norm(a)


def _confirmed(problem: Problem, state: DualState, escape: Escape) -> Array:
    """Is the curvature negative beyond rounding and beyond what the gradient leaves open?"""
    eps = float(jnp.finfo(state.value.dtype).eps)
    dtype = state.value.dtype
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))
    second, third = (jnp.asarray(x, dtype) for x in problem.loss.smoothness())
    W_norm = jnp.linalg.svd(state.params.W, compute_uv=False)[0]
    h = jnp.linalg.norm(features(problem, state.params), axis=0)
    samples = problem.samples(dtype)
    weights = samples / jnp.sum(samples)
    # ‖q_i‖ ≤ m_i for unit directions; see ufm.hessian.hvp for q.
    m = jnp.sqrt(h**2 + W_norm**2 / samples + 1.0)
    cubic = third * jnp.sum(weights * m**3)
    mixed = 6.0 * second * jnp.sqrt(jnp.sum((weights * m) ** 2 / samples))
    kappa = -escape.curvature
    terms = state.dual_norm + lam_w + lam_h + second * jnp.max(weights * m**2)
    rounding = 64 * eps * max(problem.num_columns, problem.dim) ** 0.5 * terms
    return (kappa > rounding) & (kappa**2 > 16.0 * state.grad_norm * (cubic + mixed))
