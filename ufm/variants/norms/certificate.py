r"""Classify a feasible point: global minimum, strict saddle, local minimum, or undecided.

    gap = f(point) − (lower bound on f*)

from `ufm.variants.norms.lower_bound`, or from the closed form of balanced classes where that is
higher. With the multipliers a, β of a critical point of the K-column problem,

    M = [[diag a, G], [Gᵀ, diag β]],   M (W; Hᵀ) = 0,

and M ⪰ 0 proves a global minimum for convex losses; ‖diag(a)^{-½} G diag(β)^{-½}‖₂ ≤ 1 says the
same (`dual_norm`). If M has an eigenvector (x, y) with an eigenvalue −κ < 0 and a direction e of
the feature space is unused, (x eᵀ, e yᵀ) has the curvature −κ: a strict saddle. Otherwise the
Hessian on the tangent space decides, for points of moderate size.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ufm._support.pytree import pytree
from ufm._support.quick_jit import quick_jit
from ufm.certificates.certificate import (
    Certificate,
    Reason,
    Verdict,
    declared_witness,
    is_refuted,
    relative_tolerance,
)
from ufm.certificates.decision import judged
from ufm.certificates.dual_state import Bound
from ufm.certificates.second_order import Escape
from ufm.hessian.products.lipschitz import hessian_lipschitz
from ufm.minimum.minimiser import infimum_of
from ufm.model.class_means import from_class_means
from ufm.model.evaluation import Evaluated, evaluated
from ufm.model.objective import matmul, penalty
from ufm.model.params import dot, finite_or_zero, norm
from ufm.model.problem import Params, Problem, check_shapes
from ufm.model.rounding import column_sums, gradient_noise, value_rounding
from ufm.variants.norms.dual import bordered
from ufm.variants.norms.geometry import GEOMETRY, Local, projected
from ufm.variants.norms.lower_bound import is_inside, lower_bound
from ufm.variants.norms.means import means_problem, of_means
from ufm.variants.norms.sets import Given, sets
from ufm.variants.norms.tangent_space import is_local_minimum, steepest_curvature

Scalar = Float[Array, ""]

#: A point farther than this from its projection, relative to its norm, is not feasible.
_FEASIBLE = 1e-5
#: A critical point has a gradient below this fraction of that of the loss term.
_CRITICAL = 1e-6


@pytree()
class NormCertificate(Certificate):
    """A certificate on norm sets: `dual_norm` ≤ `threshold` = 1 says that M ⪰ 0.

    `dual_norm` is infinite where a multiplier is negative, and NaN where W is given.
    """

    _ratio: ClassVar[str] = "‖diag(a)^-½ G diag(β)^-½‖₂"

    def _of_duality(self) -> str:
        said = super()._of_duality() if np.isfinite(float(self.dual_norm)) else ""
        return f" on the tangent space{said}"


def certified(problem: Problem, params: Params, tol: Any, known: float) -> NormCertificate:
    """`ufm.certify` on norm sets, with a lower bound on f* that is `known`, or −∞.

    Raises `ValueError` for a point outside of the sets.
    """
    check_shapes(problem, params)
    dtype = params.W.dtype
    check_feasible(problem, params)
    relative = relative_tolerance(tol, dtype)
    found = _certify(problem, params, relative, jnp.asarray(known, dtype))
    if isinstance(found.verdict, Tracer):
        return found
    found = dataclasses.replace(
        found, verdict=Verdict(int(found.verdict)), reason=Reason(int(found.reason))
    )
    critical = float(found.grad_norm) <= float(found.critical_tol)
    if found.verdict is not Verdict.UNDECIDED or not critical or found.reason not in _OPEN:
        return found
    return _by_curvature(problem, projected(problem, params), found)


#: Reasons for which the curvatures of the tangent space can still give a verdict.
_OPEN = (Reason.GAP_OPEN, Reason.CONVEXITY_UNKNOWN, Reason.BIAS_UNBOUNDED)


def _by_curvature(problem: Problem, params: Params, found: NormCertificate) -> NormCertificate:
    """A verdict from all curvatures of the tangent space, if it is small enough to list them."""
    margin = float(_margin(problem, params, found.grad_norm))
    lowest = steepest_curvature(problem, params)
    if lowest is None:
        return found
    curvature, direction = lowest
    if curvature < -margin:
        number = jnp.asarray(curvature, found.value.dtype)
        return dataclasses.replace(
            found,
            verdict=Verdict.STRICT_SADDLE,
            reason=Reason.NEGATIVE_CURVATURE,
            escape=Escape(direction, number, found.escape.predicted),
        )
    if is_local_minimum(problem, params, margin):
        return dataclasses.replace(
            found, verdict=Verdict.LOCAL_MINIMUM, reason=Reason.ALL_CURVATURES_POSITIVE
        )
    return found


def check_feasible(problem: Problem, params: Params) -> None:
    """Raise `ValueError`, naming the factor, for a point outside its sets; tracers pass."""
    if isinstance(params.W, Tracer):
        return
    nearest = projected(problem, params)
    for name, factor in {"W": "classifier", "H": "features"}.items():
        given, there = (np.asarray(getattr(x, name)) for x in (params, nearest))
        with np.errstate(invalid="ignore"):
            far = np.max(np.abs(given - there)) > _FEASIBLE * np.max(np.abs(there))
        if far:
            given_set = type(getattr(problem, factor)).__name__
            raise ValueError(
                f"params.{name} is not in the set {factor}={given_set}: rescale its vectors, or "
                "take a point of ufm.solve, which moves its start into the set"
            )


@quick_jit
def third_derivative(problem: Problem, params: Params) -> Scalar:
    """An estimate from above of the third derivative of f along unit tangents."""
    like = params.W.dtype
    cooled = jnp.asarray(1.0 if problem.temperature is None else problem.temperature, like)
    return hessian_lipschitz(problem, params) / jnp.minimum(cooled, 1.0) ** 3


@quick_jit
def _margin(problem: Problem, params: Params, grad_norm: Scalar) -> Scalar:
    """The size of a curvature that the exact critical point nearby shares the sign of.

    A gradient of 0, as along the axes, is one of rounding: zeros of rotations have a sign, too.
    """
    slope = jnp.maximum(grad_norm, GEOMETRY.gradient_noise(problem, params))
    return 4.0 * (third_derivative(problem, params) * slope) ** 0.5


@quick_jit
def _certify(problem: Problem, params: Params, relative: Scalar, known: Scalar) -> NormCertificate:
    params = projected(problem, params)
    at = evaluated(problem, params)
    sums = column_sums(problem, at)
    value = sums.value + penalty(problem, params)
    # The nearest point of exactly these norms is as near as rounded logits are, hence twice.
    own = 2.0 * value_rounding(problem, params, sums)
    small = means_problem(problem)
    bound, means = lower_bound(small, of_means(problem, params), value)
    region = jnp.where(is_inside(problem, at), bound.lower - own, -jnp.inf)
    lower = bound.lower if problem.loss.is_convex() else jnp.full_like(value, -jnp.inf)
    # Without rounding: inf L is a number, and the closed form allows for its own.
    known = jnp.maximum(known, infimum_of(problem))
    better = known > lower
    best = Bound(
        jnp.where(better, known, lower) - own, own + jnp.where(better, 0.0, bound.rounding)
    )
    grad, local = GEOMETRY.at(problem, at)
    grad_norm = norm(grad)
    scale = jnp.linalg.norm(matmul(at.G, params.H.T)) + jnp.linalg.norm(matmul(params.W.T, at.G))
    escape, dual_norm, descends = _escape(problem, params, local, small, means, grad_norm)
    witness = declared_witness(problem, at.V)
    found = judged(
        problem,
        value,
        own,
        best,
        Bound(region, own + bound.rounding),
        relative,
        grad_norm=grad_norm,
        critical_tol=jnp.maximum(_CRITICAL * scale, 4 * gradient_noise(problem, at)),
        decayed=_is_confined(problem, value),
        descends=descends,
        refuted=is_refuted(witness),
    )
    one = jnp.ones_like(value)
    return NormCertificate(
        **found, dual_norm=dual_norm, threshold=one, escape=escape, witness=witness
    )


def _is_confined(problem: Problem, like: Array) -> Array:
    """Whether every factor is bounded or has a positive decay."""
    decays = zip((problem.lam_w, problem.lam_h), ("classifier", "features"), strict=True)
    own = [jnp.asarray(decay, like.dtype) > 0 for decay, name in decays if decay is not None]
    return jnp.all(jnp.stack(own)) if own else jnp.asarray(True)


def _escape(
    problem: Problem,
    params: Params,
    local: Local,
    small: Problem,
    means: Evaluated,
    grad_norm: Scalar,
) -> tuple[Escape, Scalar, Array]:
    """The direction of the lowest eigenvector of M, its curvature, the dual norm, and a verdict."""
    dtype = grad_norm.dtype
    _, of_means_ = GEOMETRY.at(small, means)
    lam_w, lam_h, _ = problem.decays(dtype)
    K, m = means.G.shape
    a = jnp.broadcast_to(lam_w + of_means_.a[:, 0], (K,))
    beta = jnp.broadcast_to(lam_h + of_means_.beta[0], (m,))
    M = finite_or_zero(bordered(a, means.G, beta))
    values, vectors = jnp.linalg.eigh(M)
    unused, is_unused = _unused_direction(params)
    x, y = vectors[:K, 0], vectors[K:, 0]
    raw = Params(
        x[:, None] * unused[None, :],
        unused[:, None] * from_class_means(problem, y[None, :]),
        None if params.b is None else jnp.zeros_like(params.b),
    )
    raw = GEOMETRY.tangent(problem, params, local, raw)
    size = norm(raw)
    direction = _scaled(raw, 1.0 / jnp.where(size > 0, size, 1.0))
    image = GEOMETRY.product(problem, params, local, direction)
    curvature = dot(direction, image)
    roots = [jnp.sqrt(jnp.where(x > 0, x, 1.0)) for x in (a, beta)]
    weighted = finite_or_zero(means.G / (roots[0][:, None] * roots[1][None, :]))
    dual_norm = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(matmul(weighted, weighted.T))[-1], 0.0))
    dual_norm = jnp.where(jnp.all(a > 0) & jnp.all(beta > 0), dual_norm, jnp.inf)
    if isinstance(sets(problem, dtype)[0], Given):
        dual_norm = jnp.full_like(dual_norm, jnp.nan)
    eps = float(jnp.finfo(dtype).eps)
    rounding = 64 * eps * max(problem.num_columns, problem.dim) ** 0.5
    rounding *= norm(image) + jnp.linalg.norm(M)
    beyond = curvature**2 > 16.0 * grad_norm * third_derivative(problem, params)
    descends = is_unused & (-curvature > rounding) & beyond
    return Escape(direction, curvature, values[0]), dual_norm, descends


def _scaled(x: Params, factor: Scalar) -> Params:
    b = None if x.b is None else factor * x.b
    return Params(factor * x.W, factor * x.H, b)


def _unused_direction(params: Params) -> tuple[Float[Array, " d"], Array]:
    """The direction of the feature space that W and H use least, and whether that is not at all."""
    W, H = finite_or_zero((params.W, params.H))
    gram = matmul(W.T, W) + matmul(H, H.T)
    sizes, axes = jnp.linalg.eigh(gram)
    limit = 1e-10 * jnp.maximum(sizes[-1], 0.0)
    return axes[:, 0], sizes[0] <= limit
