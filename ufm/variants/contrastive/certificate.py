r"""The verdict on a point of a contrastive problem, with its proof.

    gap = f(H) − (lower bound on f*)

GLOBAL_MINIMUM means gap ≤ tol (`ufm.variants.contrastive.dual_bound`). The tolerance is relative to
the depth D = max(f(11ᵀ) − f, min(f(11ᵀ), 1/τ)/1000): 11ᵀ is the matrix X of features that all
coincide, and f changes by at most 2/τ over all cosines. By default it is at most a thousandth of
f − Σ_r ω_r log |P(r)|, what is left of f at the temperature 0.

A critical point with rank H < d is a STRICT_SADDLE if M = diag β + Γ has an eigenvalue λ < 0: with
its eigenvector y and a ⟂ the columns of H, the direction a yᵀ has the curvature 2λ. As in the plain
model a Hessian product decides, and the curvature −κ must satisfy κ² > 16 ‖∇f‖ L, L a bound on the
third derivative along unit directions. All other points are UNDECIDED, with the reason.

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
from ufm.certificates.second_order import Escape
from ufm.certificates.verdicts import Reason, Verdict
from ufm.model.params import Params, Scalar
from ufm.solvers import sphere
from ufm.variants.contrastive.dual_bound import Slopes, best_bound, cosines, infimum, slopes_at
from ufm.variants.contrastive.objective import check_point, hessian_product
from ufm.variants.contrastive.problem import ContrastiveProblem

#: A gradient below this fraction of its parts, which cancel at a critical point, is critical.
_CRITICAL = 1e-6
#: Singular values of H below this are zero: the features leave a dimension unused.
_UNUSED = 1e-6
#: For more columns than these an eigenvector would take minutes.
_MOST_COLUMNS = 2_000


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
    problem: ContrastiveProblem, params: Params, tol: float | Scalar | None
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
    escape = _no_escape(params)
    if critical and gap > allowed and problem.features is None:
        escape = _escape(problem, H, at, params)
    descends = float(escape.curvature) < 0 and _is_certain(problem, float(escape.curvature), grad)
    verdict, reason = _decision(
        finite=bool(np.isfinite(at.value)),
        refuted=gap < 0,
        descends=critical and descends,
        closed=gap <= allowed,
        resolvable=allowed >= rounding,
        critical=critical,
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
        verdict=verdict, reason=reason, escape=escape, witness=None, **arrays
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
    *, finite: bool, refuted: bool, descends: bool, closed: bool, resolvable: bool, critical: bool
) -> tuple[Verdict, Reason]:
    if not finite:
        return Verdict.UNDECIDED, Reason.NON_FINITE
    if refuted:  # no bound may exceed an attained value: never a verdict from one that does
        return Verdict.UNDECIDED, Reason.DECLARATION_REFUTED
    if descends:
        return Verdict.STRICT_SADDLE, Reason.NEGATIVE_CURVATURE
    if closed:
        return Verdict.GLOBAL_MINIMUM, Reason.GAP_CLOSED
    if not critical:
        return Verdict.NOT_CRITICAL, Reason.GRADIENT_TOO_LARGE
    reason = Reason.GAP_OPEN if resolvable else Reason.TOLERANCE_BELOW_ROUNDING
    return Verdict.UNDECIDED, reason


def _no_escape(params: Params) -> Escape:
    """No direction was sought, or none is known."""
    zero = Params(params.W, jnp.zeros_like(params.H), None)
    return Escape(zero, jnp.asarray(0.0), jnp.asarray(0.0))


def _escape(
    problem: ContrastiveProblem, H: Float[np.ndarray, "d N"], at: Slopes, params: Params
) -> Escape:
    """The direction a yᵀ into an unused dimension, if there is one and λ_min(M) < 0."""
    dim, columns = H.shape
    left, sizes, _ = np.linalg.svd(H, full_matrices=True)
    used = int(np.sum(sizes > _UNUSED))
    if used == dim or columns > _MOST_COLUMNS:
        return _no_escape(params)
    values, vectors = np.linalg.eigh(np.diag(at.beta) + at.gamma)
    if values[0] >= 0:
        return _no_escape(params)
    B = np.outer(left[:, -1], vectors[:, 0])
    dtype = params.H.dtype
    point = Params(params.W, jnp.asarray(H, dtype), None)
    B = sphere.tangent(point.H, jnp.asarray(B, dtype))
    direction = Params(params.W, B / jnp.linalg.norm(B), None)
    image = hessian_product(problem, point, direction)
    curvature = jnp.sum(image.H * direction.H)
    return Escape(direction, curvature, jnp.asarray(2 * values[0], curvature.dtype))


def _is_certain(problem: ContrastiveProblem, curvature: float, grad: float) -> bool:
    """Whether the remaining gradient cannot be the cause of a negative curvature.

    Along a unit direction z = X/τ has derivatives of at most 2/τ, 4/τ and 8/τ, and the log-sum-exp
    of a row has a third one of at most their range cubed, plus three times the product of the
    ranges of the first two, plus that of the third; targets add as much as the last again.
    """
    tau = float(problem.temperature)
    third = (4 / tau) ** 3 + 3 * (4 / tau) * (8 / tau) + 32 / tau
    return curvature**2 > 16 * grad * third
