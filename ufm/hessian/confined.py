r"""Spectra where factors are confined: on the tangent space, or on the variables that are free.

They are the eigenvalues of ∇²f with multipliers, projected. A variant of the model gives them by
parts, and the tangents of the orbit along which f is constant.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ufm.hessian.counts.inertia import Inertia
from ufm.hessian.spectrum_result import Gauge, Part, Spectrum, assemble
from ufm.hessian.structured.collapsed import COLLAPSED, collapse_deviation
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes

METHODS = ("auto", "collapsed", "dense")
#: By default eigenvalues within this fraction of the largest count as zero in an inertia.
_ZERO = 1e-7
#: The orbit is flat if the Hessian along it is at most this fraction of its norm.
_FLAT = 1e-7


def chosen_method(
    problem: Problem, params: Params | None, method: str, at: str, cluster_tol: float | None
) -> str:
    """ "collapsed" or "dense". Raises `ValueError` for what confined factors do not have."""
    name = getattr(problem.variant, "name", "")
    if method not in METHODS:
        wanted = ", ".join(METHODS)
        raise ValueError(f"method must be one of {wanted} for problems with {name}, got {method!r}")
    if at != "minimum":
        raise ValueError(f"at must be 'minimum' for problems with {name}, got {at!r}")
    if cluster_tol is not None and not cluster_tol >= 0:
        raise ValueError(f"cluster_tol must be non-negative, got {cluster_tol}")
    if params is None:
        return "dense" if method == "dense" else "collapsed"
    check_shapes(problem, params)
    deviation = collapse_deviation(problem, params)
    if method == "auto":
        return "collapsed" if deviation <= COLLAPSED else "dense"
    if method == "collapsed" and not deviation <= COLLAPSED:
        raise ValueError(
            f"the point is not collapsed: features differ from their class means by "
            f"{deviation:.1e} of their norm (at most {COLLAPSED:.0e}): use method='dense'"
        )
    return method


def confined_spectrum(
    problem: Problem,
    parts: Sequence[Part],
    orbit: tuple[int, float],
    method: str,
    cluster_tol: float | None,
    note: str,
) -> Spectrum:
    """All eigenvalues; `orbit` is its dimension and a bound on ‖∇²f t‖ over its unit tangents t."""
    largest = max(float(np.max(np.abs(x.values), initial=0.0)) for x in parts)
    flat = orbit[1] <= _FLAT * largest
    kept: Any = [part for part in parts if part.multiplicity and part.values.size]
    return assemble(
        kept,
        problem=problem,
        gauge=Gauge(*orbit, flat),
        method=method,
        cluster_tol=cluster_tol,
        note=note,
        dimension=sum(part.multiplicity * part.values.size for part in kept),
    )


def inertia_of(eigenvalues: Float[np.ndarray, " q"], shift: float, tol: float | None) -> Inertia:
    """`ufm.inertia` from all eigenvalues; `tol` is by default 1e-7 of the largest."""
    largest = float(np.max(np.abs(eigenvalues)))
    width = _ZERO * largest if tol is None else float(tol)
    if not width > 0:
        raise ValueError(f"tol must be positive (a count at the shift is unreliable), got {width}")
    ends = np.array([shift - width, shift + width])
    error = len(eigenvalues) * np.finfo(eigenvalues.dtype).eps * largest
    below, not_above = (int(np.sum(eigenvalues < end)) for end in ends)
    near = np.min(np.abs(eigenvalues[:, None] - ends))
    rest = len(eigenvalues) - not_above
    low, high = map(float, ends)
    return Inertia(below, not_above - below, rest, low, high, bool(near > error))
