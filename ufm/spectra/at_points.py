"""Spectra at the global minimum, the origin, the symmetric critical point, or any given point.

At the global minimum and at the origin of any problem they are computed from K columns: in closed
form if there is one (`ufm.hessian.structured.closed_form`), otherwise from the class means of the
certified minimum or of the origin (`ufm.hessian.structured.collapsed`).

    >>> found = spectrum(problem, at="origin")
    >>> [round(float(x), 6) for x in found.eigenvalues], found.multiplicities.tolist()
    ([-0.106803, 0.005, 0.01, 0.116803, 0.26], [18, 108, 1, 18, 3])
    >>> found.labels[0], found.labels[-1]
    ('outside the row space', 'class means')
"""

import dataclasses

import jax
from jaxtyping import Array, Key

from ufm._support.shown import Shown
from ufm.certificates.dual_state import dual_state
from ufm.certificates.second_order import escape_direction, has_escape
from ufm.collapse.origin import origin
from ufm.collapse.symmetric_solution import supported, symmetric_frame, symmetric_minimum
from ufm.hessian import (
    METHODS,
    PLACES,
    Spectrum,
    closed_form_spectrum,
    spectrum_of,
    spectrum_of_means,
)
from ufm.minimum.global_minimum import frame, global_minimum
from ufm.model.class_means import reduced_problem
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params, norm
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: A point with a gradient up to this fraction of λ_W + λ_H counts as critical, as for the zeros of
#: rotations in `ufm.hessian.symmetry_zeros`.
_CRITICAL = 1e-5


@by_variant
def spectrum(
    problem: Problem,
    params: Params | None = None,
    method: str = "auto",
    *,
    at: str = "minimum",
    cluster_tol: float | None = None,
    count: int = 6,
    key: Key[Array, ""] | None = None,
) -> Spectrum:
    """Compute the eigenvalues of ∇²f with multiplicities, at `params` or at the point `at`.

    The methods "auto", "closed_form" and "collapsed" build no array with N columns. `note` says
    which point was used: if the minimum is not proven, the best point found.

    Args:
        problem: The problem, with decays.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None; without
            `params`, `at` chooses the point.
        method: "auto", by structure; "closed_form"; "collapsed"; "dense", up to 10,000 dimensions;
            or "lanczos", both ends and counts of signs.
        at: Without `params`: "minimum" (the global one), "origin", or "frame", the symmetric
            critical point with ρ > 0 of a balanced problem, which need not be the minimum.
        cluster_tol: Eigenvalues within this width are merged; None is 1e-9 of the largest, and less
            for small decays.
        count: For "lanczos": number of eigenvalues at each end.
        key: For "lanczos": random key of the first vectors; None uses a fixed key.

    Returns:
        Distinct eigenvalues, ascending, with multiplicities, labels and error bounds.

    Raises:
        ValueError: The method does not apply to the point, or a decay is 0.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if at not in PLACES:
        raise ValueError(f"at must be one of {', '.join(PLACES)}, got {at!r}")
    if cluster_tol is not None and not cluster_tol >= 0:
        raise ValueError(f"cluster_tol must be non-negative, got {cluster_tol}")
    if params is None:
        if method == "closed_form" or (method == "auto" and _has_closed_form(problem, at)):
            return closed_form_spectrum(problem, at, cluster_tol)
        if method in ("auto", "collapsed"):
            means, which = class_means_at(problem, at)
            found = spectrum_of_means(problem, means, cluster_tol)
            return dataclasses.replace(found, note="; ".join(filter(None, (which, found.note))))
        params = _point_at(problem, at)
    return spectrum_of(problem, params, method, cluster_tol=cluster_tol, count=count, key=key)


def _point_at(problem: Problem, at: str) -> Params:
    if at == "origin":
        return origin(problem)
    if at == "frame":
        return frame(problem)
    return global_minimum(problem).params(jax.random.key(0))


def _has_closed_form(problem: Problem, at: str) -> bool:
    """The global minimum; without a decay, the closed form raises the error."""
    if not supported(problem) or not float(problem.mu()) > 0:
        return supported(problem)
    if at == "origin" or problem.dim >= problem.num_classes:  # no rank is larger
        return True
    scalars = symmetric_minimum(problem) if at == "minimum" else symmetric_frame(problem)
    return problem.dim >= scalars.rank(problem.num_classes)


def class_means_at(problem: Problem, at: str) -> tuple[Params, str]:
    """W, √n_k h̄_k (d×K) and b at one of `PLACES`, and a note that names the point."""
    small = reduced_problem(problem, problem.dim)
    if at == "origin":
        return origin(small), "at the origin"
    if at == "frame":
        return frame(problem, small), "at the frame"
    minimum = global_minimum(problem)
    means = dataclasses.replace(minimum, problem=small).params(jax.random.key(0))
    return means, minimum.place


def escape_curvature(problem: Problem, params: Params) -> float | None:
    """−2(‖G‖₂ − μ)μ/(λ_W + λ_H): the Rayleigh quotient along the theory's escape direction.

    It bounds the smallest eigenvalue from above at critical points of rank < d (Zhou et al., 2022).
    None if ‖G‖₂ ≤ μ or W has full rank d, where the theory has no direction. The point may be one
    of the K-column problem.
    """
    state = dual_state(problem, params)
    if not has_escape(problem, state):
        return None
    escape, _ = escape_direction(problem, state)
    return float(escape.predicted)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpectrumRecord(Shown):
    """A spectrum, its problem, and the theory's escape curvature, if any."""

    problem: Problem
    spectrum: Spectrum
    escape: float | None = None

    _printed = ("spectrum", "escape", "problem")


def record_at(problem: Problem, at: str = "minimum", method: str = "auto") -> SpectrumRecord:
    """The spectrum at one of `PLACES` by any method of `ufm.spectrum`, with the escape curvature.

    The methods auto, closed_form and collapsed build no array with N columns.
    """
    found = spectrum(problem, method=method, at=at)
    if problem.variant is not None or (found.negative is not None and not found.negative):
        return SpectrumRecord(problem, found)
    means, _ = class_means_at(problem, at)
    small = reduced_problem(problem, problem.dim)
    return SpectrumRecord(problem, found, escape_curvature(small, means))


def record_of(problem: Problem, params: Params, method: str = "auto") -> SpectrumRecord:
    """Do the same at any point; only critical points have an escape curvature."""
    found = spectrum(problem, params, method)
    if problem.variant is not None:
        return SpectrumRecord(problem, found)
    _, gradient = value_and_gradient(problem, params)
    critical = float(norm(gradient)) <= _CRITICAL * float(problem.lam_w + problem.lam_h)
    escapes = critical and (found.negative is None or found.negative > 0)
    return SpectrumRecord(problem, found, escape_curvature(problem, params) if escapes else None)
