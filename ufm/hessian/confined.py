r"""Spectra of variants: over all factors, on the tangent space, or on the variables that are free.

They are the eigenvalues of ∇²f with multipliers, projected. A variant of the model gives them by
parts, and the tangents of the orbit along which f is constant.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key

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


class Parts(NamedTuple):
    """All eigenvalues at a point, and which point it is.

    `orbit` is the dimension of the point's orbit, and a bound on ‖∇²f t‖ over its unit tangents t.
    """

    parts: list[Part]
    orbit: tuple[int, float]
    note: str


def by_parts(split: Callable[[Problem, Params | None, bool], Parts]) -> Callable[..., Spectrum]:
    """Make `ufm.spectrum` of a variant, with the methods "auto", "collapsed" and "dense".

    The decorated function splits the Hessian at the point, or at the global minimum for None, from
    class means if the last argument says so. `count` and `key` are for methods that variants lack.
    """

    @functools.wraps(split)
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
        del count, key
        method = chosen_method(problem, params, method, at, cluster_tol)
        parts, orbit, note = split(problem, params, method == "collapsed")
        largest = max(float(np.max(np.abs(x.values), initial=0.0)) for x in parts)
        kept: Any = [part for part in parts if part.multiplicity and part.values.size]
        return assemble(
            kept,
            problem=problem,
            gauge=Gauge(*orbit, orbit[1] <= _FLAT * largest),
            method=method,
            cluster_tol=cluster_tol,
            note=note,
            dimension=sum(part.multiplicity * part.values.size for part in kept),
        )

    return spectrum


def deviation_parts(
    problem: Problem, blocks: Iterable[Float[np.ndarray, " _"]], noise: float
) -> list[Part]:
    """The eigenvalues of the deviations from each class mean, each n_k − 1 times."""
    pairs = zip(blocks, problem.class_counts, strict=True)
    return [Part("deviations from class means", x, n - 1, noise) for x, n in pairs]


def inertia_of(
    eigenvalues: Float[np.ndarray, " q"], shift: float, tol: float | None, times: Any = 1
) -> Inertia:
    """`ufm.inertia` from all eigenvalues, `times` each; `tol` is 1e-7 of the largest if None."""
    largest = float(np.max(np.abs(eigenvalues)))
    width = _ZERO * largest if tol is None else float(tol)
    if not width > 0:
        raise ValueError(f"tol must be positive (a count at the shift is unreliable), got {width}")
    ends = np.array([shift - width, shift + width])
    error = 4.0 * len(eigenvalues) * np.finfo(eigenvalues.dtype).eps * largest
    times = np.broadcast_to(times, eigenvalues.shape)
    below, not_above = (int(np.sum(times[eigenvalues < end])) for end in ends)
    near = np.min(np.abs(eigenvalues[:, None] - ends))
    rest = int(np.sum(times)) - not_above
    low, high = map(float, ends)
    return Inertia(below, not_above - below, rest, low, high, bool(near > error))
