"""A spectrum: distinct eigenvalues with multiplicities, and how completely they are known."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ufm._support.shown import Shown
from ufm.model.problem import Problem

#: By default eigenvalues closer than this fraction of the largest, or of the smallest decay if that
#: is less, are merged: even a tiny λ_H is not merged with zero.
_OF_LARGEST, _OF_DECAY = 1e-9, 1e-3


class Part(NamedTuple):
    """Eigenvalues of the same origin, multiplicity and error bound.

    The label is a phrase, or a phrase and its kind: "class means: standard".
    """

    label: str
    values: Float[np.ndarray, " m"]
    multiplicity: int
    residual: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Shown):
    """Eigenvalues of ∇²f, ascending, distinct up to the cluster tolerance, with multiplicities.

    `labels` name the origin of each in one phrase: that of the largest multiplicity, with "and
    others" if several coincide. `parts` has all of them in detail. `residuals` bound the distance
    of each to an eigenvalue of the Hessian at the given point. `complete` means that the
    multiplicities add up to `dimension`; otherwise `note` says what is missing, and multiplicities
    count the eigenvalues found.

    `gauge_dimension` is the dimension of the orbit on which f is constant by symmetry (rotations of
    the feature space, and b + c1 if the loss and a free bias allow it). It is spanned by directions
    with ‖∇²f t‖ ≤ `gauge_residual` ‖t‖. An eigenvalue of modulus at most `zero_tol` counts as zero.
    `converged` is False if an iterative method ended before its residuals were small; eigenvalues
    may then lie beyond those found. `counted` has the exact numbers of negative, zero and positive
    eigenvalues, if the eigenvalues themselves are not all listed.
    """

    eigenvalues: Float[np.ndarray, " m"]
    multiplicities: Int[np.ndarray, " m"]
    labels: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    residuals: Float[np.ndarray, " m"]
    complete: bool
    method: str
    dimension: int
    gauge_dimension: int
    gauge_residual: float
    zero_tol: float
    note: str = ""
    counted: tuple[int, int, int] | None = None
    converged: bool = True

    _printed = ("dimension", "negative", "zero", "positive", "eigenvalues", "complete", "method")

    @property
    def _caution(self) -> str:
        return self.note if self.converged else f"NOT CONVERGED. {self.note}"

    @property
    def negative(self) -> int | None:
        """Number of eigenvalues below −zero_tol, the index at a critical point; None if unknown."""
        return self._count(0, self.eigenvalues < -self.zero_tol)

    @property
    def zero(self) -> int | None:
        """Number of eigenvalues within ±zero_tol; None if unknown."""
        return self._count(1, np.abs(self.eigenvalues) <= self.zero_tol)

    @property
    def positive(self) -> int | None:
        """Number of eigenvalues above zero_tol; None if unknown."""
        return self._count(2, self.eigenvalues > self.zero_tol)

    @property
    def true_zeros(self) -> int | None:
        """Number of zeros not forced by symmetry: `zero` − `gauge_dimension`."""
        return None if self.zero is None else self.zero - self.gauge_dimension

    @property
    def definite_modulo_gauge(self) -> bool | None:
        """Whether ∇²f is positive definite orthogonally to the gauge directions; None if undecided.

        Along unit gauge directions ∇²f is at most ε = `gauge_residual`. By Weyl the sorted
        eigenvalues lie within ε of `gauge_dimension` zeros and the eigenvalues on the orthogonal
        complement. The latter are positive if all but `gauge_dimension` eigenvalues exceed ε, and
        one of them is negative if an eigenvalue is < −ε.
        """
        if self.eigenvalues[0] < -max(self.gauge_residual, self.zero_tol):
            return False
        if self.negative is None or self.gauge_residual > self.zero_tol:
            return None
        return self.negative == 0 and self.true_zeros == 0

    @property
    def trace(self) -> float:
        """Σ λ over the listed eigenvalues."""
        return float(np.sum(self.eigenvalues * self.multiplicities))

    @property
    def frobenius(self) -> float:
        """√Σ λ² over the listed eigenvalues."""
        return float(np.sqrt(np.sum(self.eigenvalues**2 * self.multiplicities)))

    def expand(self) -> Float[np.ndarray, " P"]:
        """All eigenvalues, repeated by multiplicity, ascending."""
        return np.repeat(self.eigenvalues, self.multiplicities)

    def _count(self, sign: int, which: np.ndarray) -> int | None:
        if self.complete:
            return int(np.sum(self.multiplicities[which]))
        return None if self.counted is None else self.counted[sign]


class Gauge(NamedTuple):
    """Dimension of the orbit of a point under the symmetries of f, and a bound on ‖∇²f‖ along it.

    The orbit is `flat` if ∇²f vanishes along it, as at a critical point.
    """

    dimension: int
    residual: float
    flat: bool


def assemble(
    parts: Iterable[Part],
    *,
    problem: Problem,
    gauge: Gauge,
    method: str,
    cluster_tol: float | None = None,
    note: str = "",
    dimension: int | None = None,
) -> Spectrum:
    """Sort the parts and merge eigenvalues within `cluster_tol` of a cluster's smallest member.

    The result is complete if the multiplicities add up to the dimension, by default that of the
    problem.
    """
    dimension = problem.num_parameters if dimension is None else dimension
    kept = [part for part in parts if part.multiplicity > 0 and part.values.size]
    values = np.concatenate([part.values for part in kept])
    counts = np.concatenate([np.full(p.values.size, p.multiplicity, np.int64) for p in kept])
    errors = np.concatenate([np.full(p.values.size, p.residual) for p in kept])
    labels = [part.label for part in kept for _ in range(part.values.size)]
    largest = float(np.max(np.abs(values)))
    decays = [float(x) for x in (problem.lam_w, problem.lam_h) if x is not None and x > 0]
    tol = min([_OF_LARGEST * largest, *(_OF_DECAY * x for x in decays)])
    tol = tol if cluster_tol is None else cluster_tol

    order = np.argsort(values, kind="stable")
    values, counts, errors = values[order], counts[order], errors[order]
    labels = [labels[i] for i in order]
    starts = _cluster_starts(values, tol)
    total = np.add.reduceat(counts, starts)
    # Means are taken about the first member, to lose no digits over thousands of equal values.
    offset = values - np.repeat(values[starts], np.diff([*starts, len(values)]))
    mean = values[starts] + np.add.reduceat(offset * counts, starts) / total
    ends = [*starts[1:], len(values)]
    spread = np.array([values[j - 1] - values[i] for i, j in zip(starts, ends, strict=True)])
    origins = [_origins(labels[i:j], counts[i:j]) for i, j in zip(starts, ends, strict=True)]
    residuals = np.maximum.reduceat(errors, starts) + spread
    return Spectrum(
        eigenvalues=mean,
        multiplicities=total,
        labels=tuple(_phrase(found) for found in origins),
        parts=tuple(tuple(found) for found in origins),
        residuals=residuals,
        complete=int(np.sum(total)) == dimension,
        method=method,
        dimension=dimension,
        gauge_dimension=gauge.dimension,
        gauge_residual=gauge.residual,
        zero_tol=max(tol, 2.0 * gauge.residual * gauge.flat, 2.0 * float(np.max(errors))),
        note=note,
    )


def _cluster_starts(values: np.ndarray, tol: float) -> np.ndarray:
    """The indices at which clusters no wider than tol begin in ascending values."""
    starts = [0]
    while (end := int(np.searchsorted(values, values[starts[-1]] + tol, "right"))) < len(values):
        starts.append(end)
    return np.array(starts)


def _origins(labels: list[str], counts: np.ndarray) -> dict[str, int]:
    """Multiplicities by label, in an order that rounding does not change."""
    total: Counter[str] = Counter()
    for label, count in zip(labels, counts.tolist(), strict=True):
        total[label] += count
    return {label: total[label] for label in sorted(total)}


def _phrase(origins: dict[str, int]) -> str:
    total: Counter[str] = Counter()
    for label, count in origins.items():
        total[label.partition(":")[0]] += count
    largest = max(total, key=total.__getitem__)
    return largest if len(total) == 1 else f"{largest} and others"
