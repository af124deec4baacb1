"""Confidence intervals for a spectrum from stochastic Lanczos quadrature.

The formulas are in `ufm.hessian.krylov.density`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import eigvalsh_tridiagonal

from ufm._support.pytree import pytree, static, whole_number
from ufm._support.shown import Shown
from ufm.hessian.krylov.confidence import deviation, fraction_interval, kl
from ufm.hessian.krylov.lanczos import GaussRule
from ufm.hessian.krylov.stieltjes import mass_beyond, mass_bounds

Grid = Float[np.ndarray, " points"]

#: Steps of the default grid per width, with which the trapezoid rule integrates a normal density
#: to 1 within 2 exp(−2π² 4²).
_POINTS_PER_WIDTH = 4
#: Widths by which the default grid extends beyond the outermost nodes; 2e-9 of the mass is outside.
_TAIL = 6.0
#: Number of widths in a resolved spectrum, fine enough for a figure.
_WIDTHS = 100
#: A spectrum narrower than this, relative to its largest eigenvalue, is one peak, since its width
#: may be the resolution of float32.
_NARROW = 1e-4
_MAX_POINTS = 2**20
#: Largest number of statements behind an interval: both ends of the spectrum, both sides by the
#: range, the sum of squares, both sides by it. Each may fail with (1 − confidence)/7.
_STATEMENTS = 7
_BISECTIONS = 20


class Estimate(NamedTuple):
    """A value, and an interval that contains the exact one with the density's `confidence`.

    It allows for the random choice of the probes and for the error of their quadratures.
    """

    value: Any
    lower: Any
    upper: Any


@pytree()
class SpectralDensity(Shown):
    """A stochastic Lanczos quadrature; NumPy arrays in float64.

    `nodes`, `weights` (probes, m): each probe's rule, ascending, padded with weight 0 beyond
    `num_nodes`. `resolved`: whether the probe's rule equals its spectral measure, up to 1e-8 ‖∇²f‖
    (1e-5 in float32; `ufm.hessian.krylov.lanczos` has the bound); closer eigenvalues are one node.
    `dimension`: n. `num_matvecs`: most products per probe. `density` on `grid`: φ_σ of `width` σ,
    between `lower` and `upper`; it integrates to 1, and n · φ_σ counts eigenvalues.

    Each interval by itself contains the exact value with at least `confidence`.
    """

    rules: tuple[GaussRule, ...]
    dimension: int = static()
    num_matvecs: int = static()
    confidence: float = static()
    grid: Grid
    density: Grid
    lower: Grid
    upper: Grid
    width: float

    _printed = ("dimension", "num_matvecs", "confidence", "grid", "density", "lower", "upper")

    @property
    def num_nodes(self) -> Int[np.ndarray, " probes"]:
        return np.array([len(rule.nodes) for rule in self.rules])

    @property
    def resolved(self) -> Bool[np.ndarray, " probes"]:
        return np.array([rule.resolved for rule in self.rules])

    @property
    def nodes(self) -> Float[np.ndarray, "probes m"]:
        most = int(np.max(self.num_nodes))
        return np.stack(
            [np.pad(r.nodes, (0, most - len(r.nodes)), mode="edge") for r in self.rules]
        )

    @property
    def weights(self) -> Float[np.ndarray, "probes m"]:
        most = int(np.max(self.num_nodes))
        return np.stack([np.pad(r.weights, (0, most - len(r.weights))) for r in self.rules])

    def cumulative(self, x: Any) -> Estimate:
        """The fraction of eigenvalues ≤ x, for a number or an array x.

        The interval consists of fractions k/n, and contains the exact fraction at each x with the
        density's `confidence`. Its `value` is the middle of the range that the quadrature allows.
        To count eigenvalues at λ, choose x above it: they are known to 100 ε ‖∇²f‖ at best.
        """
        low, high = self._bounds(x)
        n = self.dimension
        lower, upper = fraction_interval(
            low, high, n * len(self.rules), math.log(2.0 / (1.0 - self.confidence))
        )
        # The exact fraction is one of 0, 1/n, …, 1; sums are accurate to a millionth of 1/n.
        lower, upper = np.ceil(n * lower - 1e-6) / n, np.floor(n * upper + 1e-6) / n
        value = np.clip(0.5 * (low + high), lower, upper)
        return Estimate(*(part.reshape(np.shape(x))[()] for part in (value, lower, upper)))

    def cumulative_bounds(self, x: Any) -> tuple[Any, Any]:
        """Lower and upper bound on the mean over the probes of their spectral measures up to x.

        They are the sharpest bounds from these products (`ufm.hessian.krylov.stieltjes`). They are
        certain, but concern the probes: `cumulative` has the intervals for the spectrum.
        """
        low, high = (part.reshape(np.shape(x))[()] for part in self._bounds(x))
        return low, high

    def _bounds(self, x: Any) -> Float[np.ndarray, "2 points"]:
        row = np.asarray(x, np.float64).ravel()
        return np.mean([mass_bounds(rule, row) for rule in self.rules], axis=0)

    def extremes(self) -> tuple[float, float]:
        """An interval that contains all eigenvalues with at least `confidence`.

        An eigenvalue beyond x would have a share of the probes' measures. With `confidence`, this
        share exceeds what the runs can have missed there (`ufm.hessian.krylov.confidence`). An end
        without a bound is infinite.
        """
        return _extremes(self.rules, self.dimension, math.log(2.0 / (1.0 - self.confidence)))

    def moment(self, k: int) -> Estimate:
        """(1/n) Σ λᵏ = tr((∇²f)ᵏ)/n.

        The quadrature has no error: m nodes are exact up to k = 2m − 1. Raises `ValueError` for a
        larger k, unless every probe is resolved.
        """
        k = whole_number("k", k, 0)
        last = 2 * self.num_matvecs - 1
        if np.all(self.resolved):
            last = max(last, 2 * k)
        if k > last:
            raise ValueError(
                f"moment {k} needs num_matvecs={k // 2 + 1}; this quadrature is exact to {last}"
            )
        if k == 0:
            return Estimate(1.0, 1.0, 1.0)
        log_odds = math.log(_STATEMENTS / (1.0 - self.confidence))
        low, high = _extremes(self.rules, self.dimension, log_odds)
        if not (np.isfinite(low) and np.isfinite(high)):
            return Estimate(self._mean_power(k, 1.0), -np.inf if k % 2 else 0.0, np.inf)
        # In units of the largest eigenvalue, so that powers do not overflow.
        unit = max(abs(low), abs(high)) or 1.0
        low, high, value = low / unit, high / unit, self._mean_power(k, unit)
        lower, upper = self._by_range(k, value, low, high, log_odds)
        if k % 2:  # what has both signs varies less than its range lets one expect
            n = self.dimension
            even = min(2 * k, last - last % 2)
            squares = self._by_range(even, self._mean_power(even, unit), low, high, log_odds)[1]
            off = deviation(1.0, n * squares, len(self.rules), log_odds)
            lower, upper = max(lower, value - off / n), min(upper, value + off / n)
        return _in_units(value, min(lower, value), max(upper, value), unit, k)

    def _mean_power(self, k: int, unit: float) -> float:
        """The mean of (λ/unit)ᵏ over the probes' rules."""
        return float(np.mean([np.sum(r.weights * (r.nodes / unit) ** k) for r in self.rules]))

    def _by_range(
        self, k: int, value: float, low: float, high: float, log_odds: float
    ) -> tuple[float, float]:
        """An interval for the mean of λᵏ from that of the probes, for all λ in [low, high]."""
        ends = sorted((low**k, high**k))
        first = 0.0 if k % 2 == 0 and low < 0.0 < high else ends[0]
        span = ends[1] - first
        if not span > 0:
            return ends[0], ends[1]
        part = np.clip(np.array([(value - first) / span]), 0.0, 1.0)
        lower, upper = fraction_interval(part, part, self.dimension * len(self.rules), log_odds)
        return first + span * float(lower[0]), first + span * float(upper[0])

    def trace(self) -> Estimate:
        """tr ∇²f."""
        return _times(self.dimension, self.moment(1))

    def squared_frobenius_norm(self) -> Estimate:
        """‖∇²f‖_F² = Σ λ². Needs two products per probe."""
        return _times(self.dimension, self.moment(2))

    def smoothed(self, grid: Any = None, width: float | None = None) -> "SpectralDensity":
        """The same quadrature on another grid or with another width; needs no products.

        Raises `ValueError` as `spectral_density` does.
        """
        return smoothed(self.rules, self.dimension, self.num_matvecs, self.confidence, grid, width)


def checked_smoothing(grid: Any, width: Any) -> tuple[Grid | None, float | None]:
    """Convert grid and width to numbers; raises `ValueError` if they are invalid."""
    if width is not None:
        width = float(width)
        if not (width > 0 and np.isfinite(width)):
            raise ValueError(f"width must be positive and finite, got {width}")
    if grid is not None:
        grid = np.asarray(grid, np.float64)
        if grid.ndim != 1 or not grid.size or not np.all(np.isfinite(grid)):
            raise ValueError(f"grid must be a row of finite numbers, got {grid!r}")
    return grid, width


def checked_confidence(confidence: Any) -> float:
    """Raise `ValueError` unless the confidence is between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return float(confidence)


def smoothed(
    rules: Sequence[GaussRule],
    size: int,
    num_matvecs: int,
    confidence: float,
    grid: Any,
    width: Any,
) -> SpectralDensity:
    grid, width = checked_smoothing(grid, width)
    low, high = min(r.nodes[0] for r in rules), max(r.nodes[-1] for r in rules)
    resolved = all(rule.resolved for rule in rules)
    if width is None:
        width = _default_width(low, high, None if resolved else num_matvecs)
    if grid is None:
        grid = _default_grid(low, high, width)
    kernel = np.zeros(grid.size)
    # Node by node, to need memory for the grid only.
    for rule in rules:
        for node, weight in zip(rule.nodes, rule.weights, strict=True):
            kernel += weight * np.exp(-0.5 * ((grid - node) / width) ** 2)
    kernel /= len(rules)
    log_odds = math.log(_STATEMENTS / (1.0 - confidence))
    extremes = _extremes(rules, size, log_odds)
    error = _kernel_error(rules, *extremes, width)
    lower, upper = fraction_interval(
        np.clip(kernel - error, 0.0, 1.0),
        np.clip(kernel + error, 0.0, 1.0),
        *(size * len(rules), log_odds),
    )
    peak = 1.0 / (width * np.sqrt(2 * np.pi))
    return SpectralDensity(
        *(tuple(rules), size, num_matvecs, confidence),
        *(grid, peak * kernel, peak * lower, peak * upper, width),
    )


def _kernel_error(rules: Sequence[GaussRule], low: float, high: float, width: float) -> float:
    """Bound, for every x, the error of a rule in the mean of exp(−(λ−x)²/2σ²) over v's measure.

    A rule of m nodes is exact for polynomials of degree N = 2m − 1, so that the error is at most
    twice the distance to those on the spectrum. With h half the length of the spectrum, on the
    ellipse around it with semi-axes h cosh u, h sinh u the kernel is at most exp(h² sinh²u/2σ²),
    and the distance at most 2 exp(h² sinh²u/2σ² − Nu)/(e^u − 1) (Trefethen, Approximation Theory,
    2013, theorem 8.2). Merging nodes, rounding, and the error of a resolved measure move nodes by
    less than (5 + √m) δ each, and the kernel by 1/(σ√e) times that.
    """
    moved = max((5.0 + np.sqrt(len(rule.nodes))) * rule.delta for rule in rules)
    error = moved / (width * np.sqrt(np.e))
    if not all(rule.resolved for rule in rules):
        if not np.isfinite(high - low):
            return 1.0
        u = np.geomspace(1e-4, 10.0, 400)
        degree = 2 * min(len(rule.alpha) for rule in rules) - 1
        with np.errstate(over="ignore"):
            logarithm = 0.5 * (0.5 * (high - low) / width * np.sinh(u)) ** 2 - degree * u
            error += 4.0 * float(np.min(np.exp(np.minimum(logarithm, 700.0)) / np.expm1(u)))
    return min(float(error), 1.0)


def _extremes(rules: Sequence[GaussRule], size: int, log_odds: float) -> tuple[float, float]:
    """The smallest interval with no eigenvalue outside, with separate odds for each side."""
    low, high = (_extreme(rules, size, sign, log_odds) for sign in (-1, 1))
    return -low, high


def _extreme(rules: Sequence[GaussRule], size: int, sign: int, log_odds: float) -> float:
    """The end of the spectrum on one side, times `sign`; infinite without a bound."""
    slack = np.finfo(float).eps * max(len(rule.alpha) for rule in rules)
    # The nodes of T itself, since merged nodes lie between them.
    ritz = [eigvalsh_tridiagonal(rule.alpha, rule.beta[:-1]) for rule in rules]
    outermost = max(float(np.max(sign * np.asarray(values))) for values in ritz)

    def empty(beyond: float) -> bool:
        """Whether the probes would have detected an eigenvalue there."""
        x = sign * (outermost + beyond)
        seen = slack + float(np.mean([mass_beyond(rule, x, sign) for rule in rules]))
        odds = 0.5 * len(rules) * size * float(kl(1.0 / size, min(seen, 1.0)))
        return bool(seen < 1.0 / size and odds > log_odds)

    rounding = max(rule.rounding for rule in rules)
    if all(rule.beta[-1] == 0.0 for rule in rules):
        return outermost + rounding
    scale = max(float(np.max(np.abs(rule.alpha)) + np.max(rule.beta)) for rule in rules)
    inside, outside = 0.0, 1e-3 * scale
    while not empty(outside):
        inside, outside = outside, 4.0 * outside
        if outside > 1e12 * scale:
            return np.inf
    for _ in range(_BISECTIONS):
        middle = 0.5 * (inside + outside)
        inside, outside = (inside, middle) if empty(middle) else (middle, outside)
    return outermost + outside + rounding


def _default_width(low: float, high: float, num_matvecs: int | None) -> float:
    """The default width; `num_matvecs` is None if every probe is resolved."""
    extent, largest = high - low, max(abs(low), abs(high))
    if extent <= _NARROW * largest:
        return (largest or 1.0) / _WIDTHS
    return extent / _WIDTHS if num_matvecs is None else 0.5 * np.pi * extent / num_matvecs


def _default_grid(low: float, high: float, width: float) -> Grid:
    low, high = low - _TAIL * width, high + _TAIL * width
    points = _POINTS_PER_WIDTH * (high - low) / width + 1
    if points > _MAX_POINTS:
        raise ValueError(
            f"width={width} is too fine for a grid over [{low:.3g}, {high:.3g}]: pass a grid"
        )
    return np.linspace(low, high, int(np.ceil(points)))


def _in_units(value: float, lower: float, upper: float, unit: float, k: int) -> Estimate:
    """Multiply all three by unitᵏ and round the interval outwards; 0 stays 0 despite overflow."""
    ends = ((value, 0.0), (lower, -np.inf), (upper, np.inf))
    with np.errstate(over="ignore", under="ignore"):
        factor = np.float64(unit) ** k
        scaled = [(x * factor if x else x, end) for x, end in ends]
    return Estimate(*(float(np.nextafter(x, end) if x and end else x) for x, end in scaled))


def _times(factor: int, of: Estimate) -> Estimate:
    return Estimate(*(factor * number for number in of))
