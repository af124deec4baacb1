"""Spectra at the places that theory knows, and at any point.

At the global minimum and at the origin of any problem, from K columns: in closed form where there
is one (`ufm.hessian.structured.closed_form`), else from the class means of the certified minimum or
of the origin (`ufm.hessian.structured.collapsed`).

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
from ufm.certificates.dual_bounds import dual_state
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
from ufm.model.params import Params, norm
from ufm.model.problem import Problem, value_and_gradient

#: Gradients up to this part of λ_W + λ_H are those of a critical point, as for the rotations'
#: zeros in `ufm.hessian.symmetry_zeros`.
_CRITICAL = 1e-5


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
    """Eigenvalues of ∇²f with multiplicities, at a point or at a place that theory knows.

    By "auto", "closed_form" and "collapsed" nothing with N columns is built, and `note` says which
    point it is: where the minimum is not proven, the best one found.

    Args:
        problem: The problem, with decays.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None. None: see
            `at`.
        method: "auto", by structure; "closed_form"; "collapsed"; "dense", to 10,000 dimensions; or
            "lanczos", both ends and counts of signs.
        at: Without `params`: "minimum" (the global one), "origin", or "frame", the symmetric
            critical point with ρ > 0 of a balanced problem, global or not.
        cluster_tol: The width within which eigenvalues are one; None is 1e-9 of the largest, and
            less for small decays.
        count: For "lanczos": eigenvalues at either end.
        key: For "lanczos": random key of the first vectors; None: fixed ones.

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
    """Where there is none for want of a decay, the closed form says so."""
    if not supported(problem) or not float(problem.mu()) > 0:
        return supported(problem)
    if at == "origin":
        return True
    scalars = symmetric_minimum(problem) if at == "minimum" else symmetric_frame(problem)
    return problem.dim >= scalars.rank(problem.num_classes)


def class_means_at(problem: Problem, at: str) -> tuple[Params, str]:
    """W, √n_k h̄_k (d×K) and b at a place, and which point that is."""
    small = reduced_problem(problem, problem.dim)
    if at == "origin":
        return origin(small), "at the origin"
    if at == "frame":
        return frame(problem, small), "at the frame"
    minimum = global_minimum(problem)
    means = dataclasses.replace(minimum, problem=small).params(jax.random.key(0))
    if minimum.is_exact:
        return means, "at the minimum"
    return means, f"at the best point found, which is not proven minimal: {minimum.reason}"


def escape_curvature(problem: Problem, params: Params) -> float | None:
    """−2(‖G‖₂ − μ)μ/(λ_W + λ_H): the Rayleigh quotient along the theory's escape direction.

    It bounds the smallest eigenvalue from above at critical points of rank < d (Zhou et al., 2022).
    None where ‖G‖₂ ≤ μ or W has full rank d: there the theory names no direction. A point of the
    K-column problem will do.
    """
    state = dual_state(problem, params)
    if not has_escape(problem, state):
        return None
    escape, _ = escape_direction(problem, state)
    return float(escape.predicted)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpectrumRecord(Shown):
    """A spectrum, its problem, and the theory's escape curvature where there is one."""

    problem: Problem
    spectrum: Spectrum
    escape: float | None = None

    _printed = ("spectrum", "escape", "problem")


def record_at(problem: Problem, at: str = "minimum", method: str = "auto") -> SpectrumRecord:
    """The spectrum at a place by any method of `ufm.spectrum`, with the escape curvature there.

    auto, closed_form and collapsed build nothing with N columns.
    """
    found = spectrum(problem, method=method, at=at)
    if found.negative is not None and not found.negative:
        return SpectrumRecord(problem, found)
    means, _ = class_means_at(problem, at)
    small = reduced_problem(problem, problem.dim)
    return SpectrumRecord(problem, found, escape_curvature(small, means))


def record_of(problem: Problem, params: Params, method: str = "auto") -> SpectrumRecord:
    """The same at any point; there is an escape curvature at critical ones only."""
    found = spectrum(problem, params, method)
    _, gradient = value_and_gradient(problem, params)
    critical = float(norm(gradient)) <= _CRITICAL * float(problem.lam_w + problem.lam_h)
    escapes = critical and (found.negative is None or found.negative > 0)
    return SpectrumRecord(problem, found, escape_curvature(problem, params) if escapes else None)
