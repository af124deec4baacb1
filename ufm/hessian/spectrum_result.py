"""What a spectrum is: distinct eigenvalues with multiplicities, and how much of them is known."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ufm._support.shown import Shown
from ufm.model.problem import Problem

#: Eigenvalues closer than this part of the largest, or of the smallest decay where that is less,
#: are one eigenvalue unless told otherwise: λ_H is no zero, however small.
_OF_LARGEST, _OF_DECAY = 1e-9, 1e-3


class Part(NamedTuple):
    """Eigenvalues of one origin, all with the same multiplicity and error bound.

    The label is a phrase, or a phrase and which of its kind: "class means: standard".
    """

    label: str
    values: Float[np.ndarray, " m"]
    multiplicity: int
    residual: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Shown):
    """Eigenvalues of ∇²f, ascending, distinct up to the cluster tolerance, with multiplicities.

    `labels` say in one phrase where each comes from: that of the largest multiplicity, "and others"
    where several meet. `parts` are all of them in detail. `residuals` bound the distance of each to
    an eigenvalue of the Hessian at the given point. `complete` means that the multiplicities add up
    to `dimension`; otherwise `note` says what is missing, and multiplicities count what was found.

    `gauge_dimension` is the dimension of the orbit on which f is constant by symmetry (rotations of
    the feature space, and b + c1 where the loss and a free bias allow it), spanned by directions
    along which ‖∇²f t‖ ≤ `gauge_residual` ‖t‖; an eigenvalue no larger than `zero_tol` counts as
    zero. `converged` is False where an iterative method ended before its residuals were small:
    eigenvalues may then lie beyond those found. `counted` are the negative, zero and positive ones
    where exact counts stand in for the eigenvalues themselves.
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
        """Eigenvalues below −zero_tol, the index at a critical point; None where not known."""
        return self._count(0, self.eigenvalues < -self.zero_tol)

    @property
    def zero(self) -> int | None:
        """Eigenvalues within ±zero_tol; None where not known."""
        return self._count(1, np.abs(self.eigenvalues) <= self.zero_tol)

    @property
    def positive(self) -> int | None:
        """Eigenvalues above zero_tol; None where not known."""
        return self._count(2, self.eigenvalues > self.zero_tol)

    @property
    def true_zeros(self) -> int | None:
        """Zeros that no symmetry explains: `zero` − `gauge_dimension`."""
        return None if self.zero is None else self.zero - self.gauge_dimension

    @property
    def definite_modulo_gauge(self) -> bool | None:
        """Is ∇²f positive definite orthogonally to the gauge directions? None where not decided.

        Along unit gauge directions ∇²f is at most ε = `gauge_residual`, so that by Weyl the sorted
        eigenvalues lie within ε of `gauge_dimension` zeros and the eigenvalues of the rest; those
        of the rest are positive if all but as many exceed ε, and one is negative if one is < −ε.
        """
        if self.eigenvalues[0] < -max(self.gauge_residual, self.zero_tol):
            return False
        if self.negative is None or self.gauge_residual > self.zero_tol:
            return None
        return self.negative == 0 and self.true_zeros == 0

    @property
    def trace(self) -> float:
        """Σ λ over the eigenvalues found."""
        return float(np.sum(self.eigenvalues * self.multiplicities))

    @property
    def frobenius(self) -> float:
        """√Σ λ² over the eigenvalues found."""
        return float(np.sqrt(np.sum(self.eigenvalues**2 * self.multiplicities)))

    def expand(self) -> Float[np.ndarray, " P"]:
        """Every eigenvalue as often as its multiplicity, ascending."""
        return np.repeat(self.eigenvalues, self.multiplicities)

    def _count(self, sign: int, which: np.ndarray) -> int | None:
        if self.complete:
            return int(np.sum(self.multiplicities[which]))
        return None if self.counted is None else self.counted[sign]


class Gauge(NamedTuple):
    """Dimension of the orbit of a point under the symmetries of f, and ‖∇²f‖ along it at most.

    Is it `flat`, as at a critical point, or does ∇f turn with the point?
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
) -> Spectrum:
    """Sort the parts and merge what lies within `cluster_tol` of a cluster's smallest member.

    Complete if the multiplicities add up to the dimension of the problem.
    """
    dimension = problem.num_parameters
    kept = [part for part in parts if part.multiplicity > 0 and part.values.size]
    values = np.concatenate([part.values for part in kept])
    counts = np.concatenate([np.full(p.values.size, p.multiplicity, np.int64) for p in kept])
    errors = np.concatenate([np.full(p.values.size, p.residual) for p in kept])
    labels = [part.label for part in kept for _ in range(part.values.size)]
    largest = float(np.max(np.abs(values)))
    decays = [x for x in (float(problem.lam_w), float(problem.lam_h)) if x > 0]
    tol = min([_OF_LARGEST * largest, *(_OF_DECAY * x for x in decays)])
    tol = tol if cluster_tol is None else cluster_tol

    order = np.argsort(values, kind="stable")
    values, counts, errors = values[order], counts[order], errors[order]
    labels = [labels[i] for i in order]
    starts = _cluster_starts(values, tol)
    total = np.add.reduceat(counts, starts)
    # Means about the first member: nothing is lost where thousands of eigenvalues are alike.
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
    """Where clusters no wider than tol begin in ascending values."""
    starts = [0]
    while (end := int(np.searchsorted(values, values[starts[-1]] + tol, "right"))) < len(values):
        starts.append(end)
    return np.array(starts)


def _origins(labels: list[str], counts: np.ndarray) -> dict[str, int]:
    """Multiplicity by label, in an order that rounding does not change."""
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
