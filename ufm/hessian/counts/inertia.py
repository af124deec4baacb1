"""Count eigenvalues in intervals, exactly and at any point.

The method is in `ufm.hessian.counts.arrow`.

Counting at shift ± tol avoids a factorisation at an eigenvalue that symmetry forces (zeros from
rotations). A shift that hits an eigenvalue of a block is moved away, and the shifts used are
returned.

    >>> inertia(problem, origin(problem))
    Inertia
      negative  18
      zero      0
      positive  130
      lower     -1e-08
      upper     1e-08
      reliable  True
    >>> eigenvalue_histogram(problem, origin(problem), np.linspace(-0.3, 0.3, 7)).counts
    array([  0,  18,   0, 109,  18,   3])
    >>> lower, upper = eigenvalue_bracket(problem, origin(problem), 0)   # the smallest eigenvalue
    >>> round(lower, 6)
    -0.106803
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.hessian.counts.arrow import Arrow, arrow, border_size
from ufm.hessian.products.dense import LARGEST
from ufm.hessian.spectrum_result import Part, Spectrum
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: Number of shifts in one pass of the bisection. Passes cost more than shifts, unless the rotations
#: are left out at every shift.
_SECTIONS, _SECTIONS_MODULO = 7, 2
_MOST_PASSES = 60


@pytree()
class Inertia(Shown):
    """Numbers of eigenvalues of the Hessian below, within and above shift ± tol.

    `lower` and `upper` are the two shifts used: shift ∓ tol, moved if one hit an eigenvalue of a
    block. `reliable` is False if an eigenvalue lies within rounding of a shift.
    """

    negative: int
    zero: int
    positive: int
    lower: float
    upper: float
    reliable: bool

    @property
    def _caution(self) -> str:
        return (
            "" if self.reliable else "NOT RELIABLE: an eigenvalue lies within rounding of a shift"
        )


@by_variant
def inertia(
    problem: Problem,
    params: Params,
    shift: float = 0.0,
    tol: float | None = None,
    *,
    modulo_rotations: bool = False,
) -> Inertia:
    """Count the eigenvalues of ∇²f below, within and above shift ± tol, exactly.

    The cost is two factorisations of size Kd + K, and N of size min(K, d).

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        shift: The shift, in units of the eigenvalues.
        tol: Half-width of the interval around the shift; None is 1e-6 (λ_W + λ_H).
        modulo_rotations: Count on the orthogonal complement of the rotations' directions (and of
            b + c1, where that changes nothing): the Hessian of f as a function on orbits.

    Returns:
        The three counts, the two shifts used, and whether the counts are reliable despite rounding.

    Raises:
        ValueError: The point is not finite, `tol` is not positive, or Kd + K exceeds 10,000.
    """
    width = 1e-6 * float(problem.lam_w + problem.lam_h) if tol is None else float(tol)
    if tol is None and not width > 0:
        raise ValueError("tol must be given if lam_w and lam_h are 0: it has no default then")
    if not width > 0:
        raise ValueError(
            f"tol must be positive (a count at the shift itself is unreliable), got {width}"
        )
    ends = np.array([shift - width, shift + width])
    ready = arrow(problem, params, modulo_rotations)
    found = ready.counts(ends, away=np.array([-1.0, 1.0]))
    below, not_above = (int(x) for x in found.below)
    return Inertia(
        below,
        not_above - below,
        ready.dimension - not_above,
        float(found.shifts[0]),
        float(found.shifts[1]),
        bool(np.all(found.reliable)),
    )


def with_counts(
    found: Spectrum,
    problem: Problem,
    params: Params,
    known: Sequence[Part] = (),
    shift: float = 0.0,
) -> Spectrum:
    """Add exact numbers of negative, zero and positive eigenvalues to a partial spectrum.

    They are the counts for ∇²f at a point, of a problem that may be a part of the whole, plus those
    of `known` parts. Eigenvalues between the shifts used count as zero: ±1e-6 (λ_W + λ_H), or more
    if symmetry or the error `shift` of the point requires it.
    """
    if border_size(problem) > LARGEST:
        return found
    tol = max(1e-6 * float(problem.lam_w + problem.lam_h), 2.0 * shift)
    if found.gauge_residual <= 10.0 * tol:
        tol = max(tol, 2.0 * found.gauge_residual)
    if not tol > 0:
        return found
    means = inertia(problem, params, 0.0, tol)
    if not means.reliable:
        return found
    total = np.array([means.negative, means.zero, means.positive])
    for part in known:
        signs = (part.values >= means.lower).astype(int) + (part.values >= means.upper)
        total += part.multiplicity * np.bincount(signs, minlength=3)
    negative, zero, positive = (int(x) for x in total)
    return dataclasses.replace(
        found,
        counted=(negative, zero, positive),
        zero_tol=max(means.upper, -means.lower),
        note=f"{found.note}; all are counted",
    )


class Histogram(NamedTuple):
    """Numbers of eigenvalues between consecutive edges, and outside all of them.

    `edges` are the edges used (see `Inertia`); `reliable` has an entry for every edge.
    """

    edges: Float[np.ndarray, " e"]
    counts: Int[np.ndarray, " e-1"]
    below: int
    above: int
    reliable: bool


@by_variant
def eigenvalue_histogram(
    problem: Problem, params: Params, edges: Float[np.ndarray, " e"]
) -> Histogram:
    """Count the eigenvalues of ∇²f between edges, exactly: a histogram without a bandwidth.

    Do not place an edge at an eigenvalue that structure forces, such as 0, λ_W or λ_H. Rounding
    would decide on which side it lies, and `reliable` would be False.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        edges: Ascending edges, in units of the eigenvalues.

    Returns:
        The edges, the counts between them, and whether the counts are reliable despite rounding.

    Raises:
        ValueError: The edges do not ascend, the point is not finite, or Kd + K exceeds 10,000.
    """
    asked = np.asarray(edges, float)
    if asked.ndim != 1 or len(asked) < 2 or not np.all(np.diff(asked) > 0):
        raise ValueError("edges must be two or more ascending numbers")
    found = arrow(problem, params).counts(asked)
    return Histogram(
        found.shifts,
        np.diff(found.below),
        int(found.below[0]),
        problem.num_parameters - int(found.below[-1]),
        bool(np.all(found.reliable)),
    )


@by_variant
def eigenvalue_bracket(
    problem: Problem,
    params: Params,
    index: int,
    tol: float | None = None,
    *,
    modulo_rotations: bool = False,
) -> tuple[float, float]:
    """Enclose one eigenvalue of ∇²f in an interval, by exact counts.

    Counts within rounding of an eigenvalue are not used, so that the interval can be longer than
    `tol`. It always contains the eigenvalue.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        index: Index of the eigenvalue in ascending order; 0 is the smallest.
        tol: Target length of the interval; None is 1e-9 of a bound on the spectral radius.
        modulo_rotations: As for `inertia`; `index` then counts those eigenvalues.

    Returns:
        The two ends of the interval.

    Raises:
        ValueError: The index is out of range, the point is not finite, or Kd + K exceeds 10,000.
    """
    ready = arrow(problem, params, modulo_rotations)
    total = ready.dimension
    if not -total <= index < total:
        raise ValueError(f"index must be in [{-total}, {total}), got {index}")
    index %= total
    low, high = _all_eigenvalues(ready, index)
    width = 1e-9 * max(abs(low), abs(high)) if tol is None else float(tol)
    if not width > 0:
        raise ValueError(f"tol must be positive, got {width}")
    sections = _SECTIONS_MODULO if modulo_rotations else _SECTIONS
    for _ in range(_MOST_PASSES):
        if high - low <= width:
            break
        inside = np.linspace(low, high, sections + 2)[1:-1]
        found = ready.counts(inside)
        sure = found.reliable & (found.shifts > low) & (found.shifts < high)
        lower = found.shifts[sure & (found.below <= index)]
        upper = found.shifts[sure & (found.below > index)]
        before = (low, high)
        low, high = np.max(lower, initial=low), np.min(upper, initial=high)
        if (low, high) == before:
            break
    return float(low), float(high)


def _all_eigenvalues(ready: Arrow, index: int) -> tuple[float, float]:
    """Grow an interval about 0 until it contains eigenvalue number `index`."""
    radius = float(ready.point.problem.lam_w + ready.point.problem.lam_h) + 1e-3
    while True:
        found = ready.counts(np.array([-radius, radius]), np.array([-1.0, 1.0]))
        if found.below[0] <= index < found.below[1] and bool(np.all(found.reliable)):
            return float(found.shifts[0]), float(found.shifts[1])
        radius *= 8.0
