r"""Analyse the profile φ(s) = L(s (e_k − 1/K), k): threshold, jump, minimisers, uniqueness.

The best value at equal margins is min_s φ(s) + c|s|, c = μ√n (K−1). In units of K√nμ = Kc/(K−1):

- the threshold is c* = sup_{s>0} (φ(0) − φ(s))/s; the minimiser jumps there iff c* > −φ'(0);
- for every c the minimiser is unique iff φ is strictly convex on {s ≥ 0 : φ still decreases}.
  Otherwise the convex envelope of φ has a straight face, and at c = −slope are two minimisers.

φ is computed on a grid, and every number is refined around its grid point. If φ is nonincreasing,
branch and bound bounds the minimum for one c: on [a, b] φ(s) + cs ≥ φ(b) + ca.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ufm.loss_check.function import along_margin, values_along_margin
from ufm.losses import Loss

#: Beyond the margin 60 the probability of the label is 1 to rounding, except with heavy tails.
_GRID = np.concatenate(
    [[0.0], np.geomspace(1e-9, 1e-3, 13), np.linspace(2e-3, 60.0, 3000), np.geomspace(61, 1e4, 200)]
)
#: Second derivatives below this size, relative to the largest, are rounding.
_FLAT = 1e-9


@dataclasses.dataclass(frozen=True)
class Face:
    """Two minimisers low < high of φ(s) + cs at one c; those between exist only on a flat face."""

    slope: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """φ on a grid of margins s ≥ 0, with its derivatives."""

    loss: Loss
    num_classes: int
    s: np.ndarray
    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    @classmethod
    def of(cls, loss: Loss, num_classes: int) -> "Profile":
        columns = along_margin(loss, _GRID, num_classes)
        finite = np.all(np.isfinite(columns), axis=0)
        # Stop where a function overflows.
        count = len(finite) if np.all(finite) else max(int(np.argmin(finite)), 2)
        return cls(loss, num_classes, _GRID[:count], *(x[:count] for x in columns))

    @property
    def unit(self) -> float:
        """K/(K−1): K√nμ is c times this."""
        return self.num_classes / (self.num_classes - 1)

    def phi(self, s: np.ndarray) -> np.ndarray:
        """φ(s), from the closed form if there is one."""
        if self.loss.contrastive:
            return self.loss.profile(s, self.num_classes)
        return values_along_margin(self.loss, s, self.num_classes)

    @functools.cached_property
    def discontinuous(self) -> bool:
        """Whether φ jumps down at s = 0, so that at every decay a small scale lowers f."""
        return bool(self.value[0] - self.value[1] > 1e-6 * (1.0 + abs(self.value[0])))

    @functools.cached_property
    def far_fall(self) -> float:
        """−φ' at the largest margin; if φ goes on so, f is unbounded below for smaller c."""
        return max(0.0, float(-self.slope[-1]))

    @functools.cached_property
    def rises_before_zero(self) -> bool:
        """Whether φ increases somewhere on s ≤ 0, so that a minimiser may be negative."""
        s = -np.concatenate([np.linspace(0.01, 30.0, 300)])
        slope = along_margin(self.loss, s, self.num_classes)[1]
        slope = slope[np.isfinite(slope)]
        return bool(np.any(slope > _FLAT * (1.0 + np.max(np.abs(slope), initial=0.0))))

    @functools.cached_property
    def threshold(self) -> tuple[float, float]:
        """c* and the margin of the minimiser there; inf without a threshold, NaN if not found."""
        if self.discontinuous:
            return np.inf, np.nan

        def rate(s: np.ndarray) -> np.ndarray:
            # At tiny s the difference is rounding, so the slope at 0 replaces it.
            with np.errstate(invalid="ignore", divide="ignore"):
                found = (self.value[0] - self.phi(s)) / s
            return np.where(s > 1e-4, found, -self.slope[0])

        top, best = _zoomed(rate, self.s)
        if top >= _GRID[-1]:
            return np.nan, np.nan  # the chord is longer, and steeper, than the grid reaches
        at_zero = float(-self.slope[0])
        return (best, top) if best > at_zero * (1.0 + 1e-10) else (at_zero, 0.0)

    @property
    def jumps(self) -> bool:
        """Whether there is more than one minimiser at the threshold."""
        return any(face.low == 0.0 for face in self.faces)

    @functools.cached_property
    def faces(self) -> tuple[Face, ...]:
        """The straight faces of the convex envelope on which φ still decreases, longest first."""
        s, value, kept = self.s, self.value, envelope(self.s, self.value)
        faces, scale = [], np.max(np.abs(value - value[-1])) + 1e-300
        for a, b in itertools.pairwise(kept):
            slope = (value[a] - value[b]) / (s[b] - s[a])
            middle = slice(a + 1, b)
            if b <= a + 1 or slope <= _FLAT * scale:
                continue
            chord = value[a] - slope * (s[middle] - s[a])
            if np.max(value[middle] - chord) > 1e-12 * scale:
                faces.append(Face(float(slope), float(s[a]), float(s[b])))
        faces += self._straight_faces
        return tuple(sorted(faces, key=lambda face: face.low - face.high))

    @functools.cached_property
    def _straight_faces(self) -> list[Face]:
        """Faces on which φ itself is straight and decreasing, as for a plain hinge."""
        scale = np.max(np.abs(self.value - self.value[-1])) + 1e-300
        flat = (np.abs(np.diff(self.slope)) <= 1e-12 * scale) & (-self.slope[:-1] > _FLAT * scale)
        flat &= self.s[:-1] < 60.0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
        runs = [(a, b) for a, b in edges.reshape(-1, 2) if self.s[b] - self.s[a] > 0.1]
        found = []
        for a, b in runs:
            if self.s[b] > 59.0 or b + 1 >= len(self.s):
                continue
            # The kink, at which the line meets the tangent of the next point.
            bend = self.slope[b + 1] - self.slope[a]
            apart = self.value[a] + self.slope[a] * (self.s[b + 1] - self.s[a]) - self.value[b + 1]
            kink = self.s[b + 1] + apart / bend
            found.append(Face(float(-self.slope[a]), float(self.s[a]), float(kink)))
        return found

    @property
    def landing(self) -> float:
        """The far end of a straight piece of φ that begins at 0; 0 without one."""
        return max((face.high for face in self._straight_faces if face.low == 0.0), default=0.0)

    @functools.cached_property
    def concave_at(self) -> tuple[float, float] | None:
        """The margin s ≥ 0 with the least φ'' where φ decreases, and φ'' there."""
        scale = np.max(np.abs(self.curvature)) + 1e-300
        falls = self.slope < -_FLAT * np.max(np.abs(self.slope))
        bent = np.where(falls, self.curvature, 0.0)
        i = int(np.argmin(bent))
        return (float(self.s[i]), float(bent[i])) if bent[i] < -_FLAT * scale else None

    def probability(self, s: Any) -> Any:
        """The label's probability at margin s, by softmax unless the loss has its own."""
        return self.loss.probability_at(np.asarray(s, float), self.num_classes)

    def minimum(self, c: float) -> tuple[float, float]:
        """The minimiser s ≥ 0 of φ(s) + cs and its value, refined from the grid."""
        found, value = _zoomed(lambda s: -(self.phi(s) + c * s), self.s)
        return (0.0, float(self.value[0])) if self.value[0] <= -value else (found, -value)

    def bounded_minimum(self, c: float, accuracy: float = 1e-6) -> "BoundedMinimum":
        """min over s ≥ 0 of φ(s) + cs by branch and bound; φ must not increase (see the module)."""
        # Beyond S the linear term alone exceeds φ(0); beyond the minimum of φ the sum only grows.
        i = int(np.argmin(self.value))
        reach = min((self.value[0] - self.value[i]) / c, self.s[i])
        ends = np.linspace(0.0, max(reach, 1e-3), 65)
        low, high = ends[:-1], ends[1:]
        at = self.phi(ends)
        upper = float(np.min(at + c * ends))
        cells, goal = len(low), accuracy * (1.0 + abs(upper))
        for _ in range(60):
            bound = self.phi(high) + c * low
            upper = min(upper, float(np.min(self.phi(high) + c * high)))
            open_cells = bound < upper - goal
            if not np.any(open_cells):
                break
            low, high = low[open_cells], high[open_cells]
            if len(low) > 200_000:
                break
            middle = 0.5 * (low + high)
            low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
            cells += len(low)
        lower = float(np.min(np.append(self.phi(high) + c * low, upper - goal)))
        return BoundedMinimum(min(lower, upper), upper, cells)


def envelope(s: np.ndarray, value: np.ndarray) -> list[int]:
    """Indices of the vertices of the lower convex envelope of the points (s, value)."""
    kept: list[int] = []
    for i in range(len(s)):  # Andrew's monotone chain
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (value[b] - value[a]) * (s[i] - s[a]) <= (value[i] - value[a]) * (s[b] - s[a]):
                break
            kept.pop()
        kept.append(i)
    return kept


@dataclasses.dataclass(frozen=True)
class BoundedMinimum:
    """Bounds on a minimum over s ≥ 0, and the number of cells used."""

    lower: float
    upper: float
    cells: int


def _zoomed(f: Callable[[np.ndarray], np.ndarray], s: np.ndarray) -> tuple[float, float]:
    """The s ≥ 0 with the largest f near the best point of a grid, and f there."""
    values = f(s)
    values = np.where(np.isfinite(values), values, -np.inf)
    i = int(np.argmax(values))
    low, high = s[max(i - 1, 0)], s[min(i + 1, len(s) - 1)]
    best, top = float(s[i]), float(values[i])
    for _ in range(6):
        inner = np.linspace(low, high, 41)
        values = f(inner)
        values = np.where(np.isfinite(values), values, -np.inf)
        j = int(np.argmax(values))
        if values[j] > top:
            best, top = float(inner[j]), float(values[j])
        low, high = inner[max(j - 1, 0)], inner[min(j + 1, len(inner) - 1)]
    return best, top
