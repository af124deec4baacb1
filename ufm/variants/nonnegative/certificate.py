r"""Classify a point with H ≥ 0: the verdicts of `ufm.certify`, on the bounds of the cone.

The gap rests on γ° instead of ‖G‖₂ (`ufm.variants.nonnegative.bounds`). STRICT_SADDLE means a
feasible direction of negative curvature along an unused coordinate, and LOCAL_MINIMUM a point that
no feasible direction leads down from, to second order. The landscape of H ≥ 0 has such minima at
any d: if every coordinate serves some class, and class k has none, k is invisible to first order.
Without a bias each invisible class costs what it would gain,

    f = f* + Σ_k (n_k/N) [φ(0) − min_s (φ(s) + c_k s)]  =  f* + (j/K)(f(0) − f*)

with j invisible classes of the same size. `ufm.variants.nonnegative.merging` leads out of them.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from ufm._support.pytree import pytree
from ufm._support.quick_jit import quick_jit
from ufm.certificates.certificate import (
    Certificate,
    declared_witness,
    is_refuted,
    relative_tolerance,
)
from ufm.certificates.decision import judged, missing_bound
from ufm.certificates.dual_bounds import region_lower_bound
from ufm.certificates.second_order import is_descent
from ufm.certificates.verdicts import Reason, Verdict
from ufm.model.class_means import to_class_means
from ufm.model.params import Params, norm
from ufm.model.problem import Problem, check_shapes
from ufm.model.rounding import gradient_noise
from ufm.variants.nonnegative.bounds import (
    cone_state,
    has_margin_bound,
    margins,
    proven_bound,
)
from ufm.variants.nonnegative.second_order import cone_escape, is_local_minimum
from ufm.variants.nonnegative.starts import check_nonnegative

Scalar = Float[Array, ""]

#: A class mean below this fraction of the longest is zero.
_INVISIBLE = 1e-6
#: The other classes are at their best if f is what that makes it, to this fraction of f.
_AT_BEST = 1e-8
#: Reasons for which the curvatures of the free variables can still give a verdict.
_OPEN = (Reason.GAP_OPEN, Reason.CONVEXITY_UNKNOWN, Reason.BIAS_UNBOUNDED)


@pytree()
class NonNegativeCertificate(Certificate):
    """A certificate with H ≥ 0. `grad_norm` is that of the projected gradient, `dual_norm` is γ°.

    `invisible` says which classes have no features while others have some. `lift` is f − f* if all
    other classes are at their best, which is known without a bias for contrastive losses; else NaN.
    """

    invisible: Bool[Array, "*batch K"]
    lift: Float[Array, "*batch"]

    _ratio: ClassVar[str] = "γ°/μ"

    def explain(self) -> str:
        """Explain the verdict on a single point, and name the classes that it does not see."""
        text, verdict = super().explain(), Verdict(int(self.verdict))
        if verdict is Verdict.LOCAL_MINIMUM:
            text += " Counted are the free variables; zero entries of H have positive gradients."
        missing = np.flatnonzero(np.asarray(self.invisible)).tolist()
        if not missing or verdict is Verdict.GLOBAL_MINIMUM:
            return text
        text += f" No coordinate serves class {', '.join(map(str, missing))}"
        lift = float(self.lift)
        if np.isfinite(lift):
            text += f": f = f* + {lift:.6g}"
            share = len(missing) / len(np.asarray(self.invisible))
            if abs(lift - share * (float(self.depth) + lift)) <= 1e-6 * lift:
                text += f" = f* + ({len(missing)}/{len(self.invisible)})(f(0) − f*)"
        return text + ". ufm.variants.nonnegative.merged_solve leads on from here."


def cone_certify(
    problem: Problem, params: Params, tol: float | Scalar | None = None
) -> NonNegativeCertificate:
    """Classify a point as `ufm.certify` does. Raises `ValueError` if H has negative entries."""
    check_shapes(problem, params)
    check_nonnegative(params)
    relative = relative_tolerance(tol, params.W.dtype)
    found = _certify(problem, params, relative)
    if isinstance(found.verdict, Tracer):
        return found
    verdict, reason = Verdict(int(found.verdict)), Reason(int(found.reason))
    still_open = verdict is Verdict.UNDECIDED and reason in _OPEN
    if still_open and is_local_minimum(problem, params, float(found.grad_norm)):
        verdict, reason = Verdict.LOCAL_MINIMUM, Reason.ALL_CURVATURES_POSITIVE
    return dataclasses.replace(found, verdict=verdict, reason=reason)


@quick_jit
def _certify(problem: Problem, params: Params, relative: Scalar) -> NonNegativeCertificate:
    state = cone_state(problem, params)
    critical_tol = jnp.maximum(
        1e-6 * state.mu * jnp.maximum(norm(params), 1.0), 4 * gradient_noise(problem, state.at)
    )
    escape, image, slope = cone_escape(problem, state)
    witness = declared_witness(problem, state.at.V)
    # A slope counts as the gradient does: the curvature must outweigh both.
    sloped = state._replace(grad_norm=state.grad_norm + jnp.maximum(slope, 0.0))
    found = judged(
        problem,
        # f is infinite outside of the cone.
        jnp.where(jnp.all(params.H >= 0), state.value, jnp.inf),
        state.value_rounding,
        proven_bound(problem, state),
        region_lower_bound(problem, state),
        relative,
        grad_norm=state.grad_norm,
        critical_tol=critical_tol,
        decayed=state.mu > 0,
        descends=is_descent(problem, sloped, escape, image),
        refuted=is_refuted(witness),
        missing=missing_bound(problem, has_margin_bound(problem)),
    )
    sizes = jnp.linalg.norm(to_class_means(problem, params.H), axis=0)
    invisible = sizes <= _INVISIBLE * jnp.max(sizes)
    return NonNegativeCertificate(
        **found,
        dual_norm=state.dual_norm,
        threshold=state.mu,
        escape=escape,
        witness=witness,
        invisible=invisible & (jnp.max(sizes) > 0),
        lift=_lift(problem, invisible, found["value"]),
    )


def _lift(problem: Problem, invisible: Bool[Array, " K"], value: Scalar) -> Scalar:
    """What invisible classes cost; NaN unless classes decouple and the others are at their best."""
    nan = jnp.full_like(value, jnp.nan)
    if problem.has_bias or not has_margin_bound(problem):
        return nan
    phi, c, shares = margins(problem)
    zero = 0.0 * c
    s = phi.argmin(c, zero)
    best = phi.value(s) + c * s
    lift = jnp.sum(jnp.where(invisible, shares * (phi.value(zero) - best), 0.0)).astype(value.dtype)
    star = jnp.sum(shares * best).astype(value.dtype)
    others = jnp.abs(value - star - lift) <= _AT_BEST * jnp.abs(value)
    return jnp.where(others, lift, nan)
