r"""Classify a point of a deep linear model.

GLOBAL_MINIMUM needs a proven lower bound on f* within the tolerance (`minimum.proven_bound`). For
M ≥ 3 factors there are local minima that are not global, up to K + 1 of them for MSE, and the
origin is always one. LOCAL_MINIMUM and STRICT_SADDLE are numerical statements about an exact
critical point nearby, by all eigenvalues of its Hessian.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.pytree import pytree, static
from ufm._support.quick_jit import is_traced, quick_jit
from ufm.certificates.certificate import Certificate, declared_witness, relative_tolerance
from ufm.certificates.decision import tolerance
from ufm.certificates.verdicts import Reason, Verdict
from ufm.losses import Refutation
from ufm.model.evaluation import Evaluated
from ufm.model.params import Params, norm
from ufm.model.problem import Problem, check_shapes
from ufm.model.rounding import column_sums, value_floor
from ufm.variants.deep.curvature import Curvatures, curvatures, no_curvatures
from ufm.variants.deep.derivatives import penalty, sweep
from ufm.variants.deep.factors import chain, factors_of, inner_widths, mean_decay
from ufm.variants.deep.minimum import deep_global_minimum
from ufm.variants.deep.solver import noise_at


@pytree()
class DeepCertificate(Certificate):
    """A `Certificate` with the best known value, its structure, and the rank of the point.

    `threshold` is Λ = (∏λ)^{1/M}. `escape.predicted` is the least eigenvalue of the nearest point
    of exact rank. `rank` is −1 where no curvatures were computed.
    """

    best_known: Float[Array, "*batch"]
    rank: Any
    best_kind: str = static()

    def explain(self) -> str:
        """Explain the verdict on a single point, and say whether a better point is known."""
        text, value, best = super().explain(), float(self.value), float(self.best_known)
        if Verdict(int(self.verdict)) is Verdict.GLOBAL_MINIMUM:
            return text
        if np.isfinite(best) and value - best > float(value_floor(best)) + float(self.rounding):
            return f"{text} A better point is known: {self.best_kind}, f = {best:.10g}."
        return f"{text} No better point is known."

    def _of_duality(self) -> str:
        return f", rank {int(self.rank)}" if int(self.rank) >= 0 else ""


def deep_certify(problem: Problem, params: Params, tol: Any = None) -> DeepCertificate:
    """As `ufm.certify`, for one point in float64."""
    check_shapes(problem, params)
    if is_traced((problem, params)):
        raise ValueError("certify takes one point with hidden layers at a time, not a batch")
    if params.W.dtype != np.float64:
        raise ValueError(
            "certify with hidden layers needs float64: jax.config.update('jax_enable_x64', True), "
            "and ufm.polish for the point"
        )
    relative = relative_tolerance(tol, params.W.dtype)
    seen = _numbers(problem, params, relative)
    value, grad_norm, rounding = float(seen.value), float(seen.grad_norm), float(seen.rounding)
    largest, best = float(seen.tol), deep_global_minimum(problem)
    decayed = float(mean_decay(problem)) > 0
    # The bound allows for its own rounding.
    bound = float(best.lower_bound) - rounding if decayed else -np.inf
    gap = value - bound
    critical_tol = max(1e-6 * float(seen.scale), 4.0 * float(seen.noise))
    finite = bool(np.isfinite(value) and np.isfinite(grad_norm))
    critical = finite and grad_norm <= critical_tol
    seen_curvatures = curvatures(problem, params, grad_norm) if critical else no_curvatures(params)
    closed = decayed and gap <= largest and rounding <= largest
    refuted = seen.witness is not None and bool(seen.witness[1].refuted)
    verdict, reason = _decide(problem, finite, refuted, decayed, critical, closed, seen_curvatures)
    numbers = {
        "value": value,
        "grad_norm": grad_norm,
        "dual_norm": np.linalg.norm(np.asarray(seen.G), 2) if finite else np.nan,
        "threshold": mean_decay(problem),
        "lower_bound": bound,
        "gap": gap,
        "region_gap": np.inf,
        "rounding": rounding,
        "tol": largest,
        "depth": float(seen.depth),
        "critical_tol": critical_tol,
        "best_known": best.value,
    }
    return DeepCertificate(
        verdict=verdict,
        reason=reason,
        escape=seen_curvatures.escape,
        witness=seen.witness,
        rank=seen_curvatures.rank,
        best_kind=best.kind,
        **{name: jax.device_put(np.float64(x)) for name, x in numbers.items()},
    )


def _decide(
    problem: Problem,
    finite: bool,
    refuted: bool,
    decayed: bool,
    critical: bool,
    closed: bool,
    found: Curvatures,
) -> tuple[Verdict, Reason]:
    """The verdict and reason of the first line that applies."""
    open_reason = Reason.GAP_OPEN if problem.loss.is_convex() else Reason.CONVEXITY_UNKNOWN
    lines = (
        (not finite, Verdict.UNDECIDED, Reason.NON_FINITE),
        (refuted, Verdict.UNDECIDED, Reason.DECLARATION_REFUTED),
        (critical and found.descends, Verdict.STRICT_SADDLE, Reason.NEGATIVE_CURVATURE),
        (closed, Verdict.GLOBAL_MINIMUM, Reason.GAP_CLOSED),
        (not critical, Verdict.NOT_CRITICAL, Reason.GRADIENT_TOO_LARGE),
        (not decayed, Verdict.UNDECIDED, Reason.NO_DECAY),
        (found.is_minimum, Verdict.LOCAL_MINIMUM, Reason.ALL_CURVATURES_POSITIVE),
    )
    for applies, verdict, reason in lines:
        if applies:
            return verdict, reason
    return Verdict.UNDECIDED, open_reason


class _Numbers(NamedTuple):
    """What one program computes at a point; `scale` is Λ max(‖x‖, 1)."""

    value: Array
    grad_norm: Array
    rounding: Array
    tol: Array
    depth: Array
    noise: Array
    scale: Array
    G: Array
    witness: tuple[Array, Refutation] | None


@quick_jit
def _numbers(problem: Problem, params: Params, relative: Array) -> _Numbers:
    swept = sweep(problem, params)
    value, grad, _, seen = swept
    tol, depth = tolerance(problem, value, relative)
    scale = jnp.asarray(mean_decay(problem), value.dtype) * jnp.maximum(norm(params), 1.0)
    rounding = value_rounding(problem, params, seen)
    noise = noise_at(problem, params, swept)
    witness = declared_witness(problem, seen.V)
    return _Numbers(value, norm(grad), rounding, tol, depth, noise, scale, seen.G, witness)


def value_rounding(problem: Problem, params: Params, seen: Evaluated) -> Array:
    """Bound the rounding error of f, as `ufm.model.rounding.value_rounding` for M factors."""
    absolute = [jnp.abs(F) for F in factors_of(params)]
    two = Params(chain(absolute[:-1]), absolute[-1], params.b)
    sums = column_sums(problem, seen._replace(params=two))
    eps, loss = float(np.finfo(float).eps), problem.loss
    K, N, widths = problem.num_outputs, problem.num_columns, inner_widths(problem)
    # Inner products one after the other, each of a length d_l.
    unit = (sum(widths) + 8 * len(absolute)) * eps
    second = jnp.asarray(loss.smoothness()[0], seen.V.dtype)
    longest = max(F.size for F in absolute) + 8
    total = unit * sums.slope + second * (unit**2 * sums.square)
    total += eps * ((K + 16) * sums.evaluation + (N + 8) * sums.size)
    total += eps * longest * penalty(problem, params)
    return jnp.where(loss.quadratic | (unit * sums.largest < 0.1), total, jnp.inf)
