r"""A critical point with its eigenvalues, verdict and other numbers.

Eigenvalues are all those of ∇²f for the whole problem: of the Hessian of the search space by
LAPACK, and outside it in closed form (`ufm.hessian.structured.collapsed`,
`ufm.hessian.structured.complement`).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm._support.shown import Shown
from ufm.certificates.certificate import Reason, Verdict, certify
from ufm.certificates.dual_state import dual_state
from ufm.certificates.second_order import escape_direction, has_escape
from ufm.hessian import (
    Spectrum,
    hessian_lipschitz,
    padded_spectrum,
    rank_of,
    spectrum_of_means,
)
from ufm.landscape.lowest import canonical, lowest_eigenpair
from ufm.landscape.point_space import PointSpace
from ufm.model.class_means import deviations, to_class_means
from ufm.model.evaluation import evaluated
from ufm.model.objective import matmul, value_and_gradient
from ufm.model.params import Params, norm
from ufm.model.problem import Problem

#: Features of a class that differ by less than this fraction of their norm are equal.
_COLLAPSED = 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CriticalPoint(Shown):
    """A critical point of f, up to rotations and relabellings of samples and of equal classes.

    `singular_values` are the K largest of Z = WH; `dual_ratio` is ‖G‖₂/μ. `index` and `zero_modes`
    count the negative and the zero eigenvalues of ∇²f, `gauge_modes` the zeros that symmetry
    forces; all counts are exact up to rounding at the given point. `smallest` is the smallest
    eigenvalue and `residual` = ‖∇²f v − λv‖ that of its eigenvector `direction`. `escape` is the
    curvature −2(‖G‖₂−μ)μ/(λ_W+λ_H) that theory predicts along its escape direction, None if there
    is no such direction. `curvature` is the curvature along it by a Hessian product.

    `hits` is the number of searches of each kind that ended here.
    """

    space: PointSpace
    point: Params
    value: float
    grad_norm: float
    rank: int
    singular_values: Float[np.ndarray, " m"]
    dual_norm: float
    dual_ratio: float
    index: int
    zero_modes: int
    gauge_modes: int
    smallest: float
    residual: float
    direction: Params
    escape: float | None
    curvature: float | None
    verdict: Verdict
    reason: Reason
    gap: float
    hits: dict[str, int]

    _printed = ("verdict", "value", "index", "zero_modes", "rank", "grad_norm", "hits")

    @property
    def params(self) -> Params:
        """W (K×d), H (d×N) and b of the whole problem."""
        return self.space.embed(self.point)

    @property
    def found_by(self) -> tuple[str, ...]:
        """The kinds of search that found the point."""
        return tuple(self.hits)

    @property
    def is_degenerate(self) -> bool:
        """Whether there are more zeros than symmetry forces, as in a continuum of points."""
        return self.zero_modes > self.gauge_modes


def describe(space: PointSpace, point: Params, hits: dict[str, int]) -> CriticalPoint:
    """Compute all fields of `CriticalPoint` at a critical point of the search space."""
    small, rank = space.small, rank_of(point)
    point = canonical(point, rank)
    value, gradient = value_and_gradient(small, point)
    spectrum = spectrum_at(space, point)
    # Search spaces are small enough for all eigenvalues, which an index needs.
    assert spectrum.negative is not None
    assert spectrum.zero is not None
    smallest, direction, residual = lowest_eigenpair(small, point, rank)
    state = dual_state(small, point)
    mu = float(state.mu)
    escape = curvature = None
    if has_escape(small, state):
        found, _ = escape_direction(small, state)
        escape, curvature = float(found.predicted), float(found.curvature)
    verdict, reason, gap = _verdict(space, point, smallest, residual, float(norm(gradient)))
    return CriticalPoint(
        space=space,
        point=point,
        value=float(value),
        grad_norm=float(norm(gradient)),
        rank=rank,
        singular_values=np.linalg.svd(np.asarray(matmul(point.W, point.H)), compute_uv=False),
        dual_norm=float(state.dual_norm),
        dual_ratio=float(state.dual_norm) / mu,
        index=spectrum.negative,
        zero_modes=spectrum.zero,
        gauge_modes=spectrum.gauge_dimension,
        smallest=smallest,
        residual=residual,
        direction=direction,
        escape=escape,
        curvature=curvature,
        verdict=verdict,
        reason=reason,
        gap=gap,
        hits=hits,
    )


def spectrum_at(space: PointSpace, point: Params) -> Spectrum:
    """All eigenvalues of ∇²f for the whole problem at a point of the search space."""
    if space.of_means:
        return spectrum_of_means(space.problem, point, reduce_rank=False)
    size = float(jnp.linalg.norm(point.H))
    if float(jnp.linalg.norm(deviations(space.small, point.H))) <= _COLLAPSED * size:
        means = Params(point.W, to_class_means(space.small, point.H), point.b)
        return spectrum_of_means(space.problem, means, reduce_rank=False)
    return padded_spectrum(space.problem, space.small, point)


def _verdict(
    space: PointSpace, point: Params, smallest: float, residual: float, size: float
) -> tuple[Verdict, Reason, float]:
    """The verdict of `certify`, unless the smallest eigenvalue shows a strict saddle nearby.

    As in `ufm.certificates.second_order`, it must be negative beyond its residual and beyond the
    effect of the gradient.
    """
    if space.of_means and not space.problem.loss.is_convex():
        # The scalar bound needs balanced samples, which weighted columns do not reveal.
        found = certify(space.problem, space.embed(point))
    else:
        found = certify(space.small, point)
    gap = float(found.gap)
    slack = 16.0 * size * float(hessian_lipschitz(space.small, point))
    if smallest < -2.0 * residual and smallest**2 > slack and smallest < 0:
        return Verdict.STRICT_SADDLE, Reason.NEGATIVE_CURVATURE, gap
    return Verdict(int(found.verdict)), Reason(int(found.reason)), gap


@quick_jit
def signature(problem: Problem, point: Params) -> Float[Array, " s"]:
    """f, and the singular values of Z and of G/μ, which distinguish critical points.

    They are invariant under rotations and relabellings of samples and equal classes. They are also
    constant along a continuum of critical points, such as MSE's saddles, which counts as one point.
    """
    value, _ = value_and_gradient(problem, point)
    G = evaluated(problem, point).G
    sizes = [jnp.linalg.svd(x, compute_uv=False) for x in (matmul(point.W, point.H), G)]
    return jnp.concatenate([value[None], sizes[0], sizes[1] / problem.mu()])
