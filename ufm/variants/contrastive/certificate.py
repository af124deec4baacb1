r"""The verdict on a point of a contrastive problem, with its proof.

    gap = f(H) − (lower bound on f*)

GLOBAL_MINIMUM means gap ≤ tol (`ufm.variants.contrastive.dual_bound`). The tolerance is relative to
the depth D = max(f(11ᵀ) − f, min(f(11ᵀ), 1/τ)/1000): 11ᵀ is the matrix X of features that all
coincide, and f changes by at most 2/τ over all cosines. By default it is at most a thousandth of
f − Σ_r ω_r log |P(r)|, what is left of f at the temperature 0.

STRICT_SADDLE and LOCAL_MINIMUM rest on curvatures (`ufm.variants.contrastive.second_order`), for
features without a sign. All other points are UNDECIDED, with the reason.

Everything is computed on the host, in double precision, with columns of norm 1 to its rounding. JAX
must have float64 enabled; points may be float32.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ufm._support.pytree import pytree
from ufm.certificates.certificate import Certificate, check_tolerance
from ufm.certificates.decision import (
    LEAST_DEPTH,
    LEAST_TOLERANCE,
    RELATIVE_TOLERANCE,
    VALUE_TOLERANCE,
)
from ufm.certificates.verdicts import Reason, Verdict
from ufm.model.params import Params, Scalar
from ufm.variants.contrastive.dual_bound import Slopes, best_bound, cosines, infimum, slopes_at
from ufm.variants.contrastive.objective import check_point
from ufm.variants.contrastive.problem import ContrastiveProblem
from ufm.variants.contrastive.second_order import not_sought, second_order

#: A gradient below this fraction of its parts, which cancel at a critical point, is critical.
_CRITICAL = 1e-6


@pytree()
class ContrastiveCertificate(Certificate):
    """A verdict on a point of a contrastive problem; `least_eigenvalue` is λ_min(diag β + Γ).

    In the full batch this is the matrix of the class means. `dual_norm` and `threshold`, which
    belong to weight decay, are NaN.
    """

    least_eigenvalue: Float[Array, "*batch"]

    def _of_duality(self) -> str:
        return f", λ_min(diag β + Γ) = {float(self.least_eigenvalue):.2e}"


def certified(
    problem: ContrastiveProblem, params: Params, tol: float | Scalar | None = None
) -> ContrastiveCertificate:
    """Classify a point; see `ufm.certify`."""
    check_point(problem, params)
    check_tolerance(tol)
    if isinstance(params.H, Tracer) or params.H.ndim != 2:
        raise ValueError(
            "certify of a contrastive problem runs on the host: call it for one point at a time, "
            "outside jax.jit and jax.vmap"
        )
    if jnp.result_type(float) != jnp.dtype(jnp.float64):
        raise ValueError("certificates need float64: jax.config.update('jax_enable_x64', True)")
    given = np.asarray(params.H, float)
    H = given / np.linalg.norm(given, axis=0)
    at = slopes_at(problem, cosines(H))
    grad, size = _gradient(problem, H, at)
    critical_tol = max(_CRITICAL * size, 4 * at.tangent_rounding)
    bound = best_bound(problem, H)
    # The dot products of unit vectors are wrong by d eps, and f at the point by that over τ.
    dots = 2 * (len(H) + 8) * float(np.finfo(float).eps) / float(problem.temperature)
    lower = bound.lower - at.value_rounding - dots
    gap = at.value - lower
    rounding = min(bound.rounding + at.value_rounding + dots, abs(gap))
    allowed, depth = _tolerance(problem, at.value, tol)
    critical = grad <= critical_tol
    seen = not_sought(params)
    if critical and gap > allowed and problem.features is None:
        # A gradient of 0, as along the axes, is one of rounding: its parts have errors of a few
        # eps, and eps/τ from exponents.
        noise = 8 * float(np.finfo(float).eps) * (1 + 1 / float(problem.temperature)) * size
        seen = second_order(problem, H, at, max(grad, noise), params)
    verdict, reason = _decision(
        finite=bool(np.isfinite(at.value)),
        refuted=gap < 0,
        descends=seen.descends,
        closed=gap <= allowed,
        critical=critical,
        is_local=seen.is_local_minimum,
        resolvable=allowed >= rounding,
    )
    numbers = {
        "value": at.value,
        "grad_norm": grad,
        "dual_norm": np.nan,
        "threshold": np.nan,
        "lower_bound": lower,
        "gap": gap,
        "region_gap": gap,
        "rounding": rounding,
        "tol": allowed,
        "depth": depth,
        "critical_tol": critical_tol,
        "least_eigenvalue": bound.least_eigenvalue,
    }
    arrays = {name: jnp.asarray(value) for name, value in numbers.items()}
    return ContrastiveCertificate(
        verdict=verdict, reason=reason, escape=seen.escape, witness=None, **arrays
    )


def _gradient(
    problem: ContrastiveProblem, H: Float[np.ndarray, "d N"], at: Slopes
) -> tuple[float, float]:
    """‖∇f‖, Riemannian or projected, and the norm of its parts that cancel."""
    G = 2 * H @ at.gamma
    grad = G + 2 * H * at.beta
    if problem.features is not None:
        grad = np.where((H > 0) | (grad < 0), grad, 0.0)
    return float(np.linalg.norm(grad)), float(np.linalg.norm(G))


def _tolerance(problem: ContrastiveProblem, value: float, tol: Any) -> tuple[float, float]:
    """The largest gap of a global minimum, and the depth to which it is relative."""
    same = slopes_at(problem, np.ones((problem.num_columns,) * 2)).value
    least = infimum(problem)
    depth = max(same - value, LEAST_DEPTH * min(same, 1 / float(problem.temperature)))
    if tol is not None:
        return float(tol) * depth, depth
    small = max(VALUE_TOLERANCE * (value - least), LEAST_TOLERANCE * (same - least))
    return min(RELATIVE_TOLERANCE * depth, small), depth


def _decision(
    *,
    finite: bool,
    refuted: bool,
    descends: bool,
    closed: bool,
    critical: bool,
    is_local: bool,
    resolvable: bool,
) -> tuple[Verdict, Reason]:
    """Choose the verdict and reason of the first line that applies."""
    undecided = Verdict.UNDECIDED
    lines = (
        (not finite, undecided, Reason.NON_FINITE),
        # No bound may exceed an attained value: never a verdict from one that does.
        (refuted, undecided, Reason.DECLARATION_REFUTED),
        (descends, Verdict.STRICT_SADDLE, Reason.NEGATIVE_CURVATURE),
        (closed, Verdict.GLOBAL_MINIMUM, Reason.GAP_CLOSED),
        (not critical, Verdict.NOT_CRITICAL, Reason.GRADIENT_TOO_LARGE),
        (not resolvable, undecided, Reason.TOLERANCE_BELOW_ROUNDING),
        (is_local, Verdict.LOCAL_MINIMUM, Reason.ALL_CURVATURES_POSITIVE),
        (True, undecided, Reason.GAP_OPEN),
    )
    return next((verdict, reason) for applies, verdict, reason in lines if applies)
