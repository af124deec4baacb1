"""What a stochastic Lanczos quadrature says of a spectrum, with the standard errors of its probes.

The formulas are in `ufm.hessian.density`.
"""

import operator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ufm._pytree import pytree, static
from ufm.hessian.lanczos import GaussRule

Grid = Float[np.ndarray, " points"]

#: Steps of the default grid per width: the trapezoid rule then integrates a normal density to
#: 1 within 2 exp(−2π² 4²).
_POINTS_PER_WIDTH = 4
#: Widths that the default grid goes beyond the outermost nodes: 2e-9 of the mass is farther out.
_TAIL = 6.0
#: Widths in the spectrum where the rule resolves everything: fine enough for a figure.
_WIDTHS = 100
#: A spectrum narrower than this, relative to its largest eigenvalue, is one peak: it may be
#: nothing but float32's resolution.
_NARROW = 1e-4
_MAX_POINTS = 2**20


class Estimate(NamedTuple):
    """The mean over the probes, and its standard error."""

    value: Any
    standard_error: Any


@pytree()
class SpectralDensity:
    """A stochastic Lanczos quadrature; NumPy arrays in float64.

    `nodes`, `weights` (probes, m): each probe's rule, ascending, filled up with weight 0 beyond
    `num_nodes`. `resolved`: the probe's rule is its spectral measure, up to 1e-8 ‖∇²f‖ (1e-5 in
    float32; `ufm.hessian.lanczos` has the bound), and eigenvalues closer than that are one node.
    `dimension`: n. `num_matvecs`: products per probe, at most. `density`, `standard_error` on
    `grid`: φ_σ of `width` σ; it integrates to 1, and n · φ_σ counts eigenvalues.
    """

    nodes: Float[np.ndarray, "probes m"]
    weights: Float[np.ndarray, "probes m"]
    num_nodes: Int[np.ndarray, " probes"]
    resolved: Bool[np.ndarray, " probes"]
    dimension: int = static()
    num_matvecs: int = static()
    grid: Grid
    density: Grid
    standard_error: Grid
    width: float

    def cumulative(self, x: Any) -> Estimate:
        """The fraction of eigenvalues ≤ x, with standard error; x a number or an array.

        Nodes are eigenvalues up to 1e-8 ‖∇²f‖ at best: to count those at λ, ask above it.
        """
        fractions = [_step(w)[_up_to(nodes, x)] for nodes, w in self._rules()]
        return _estimate(np.stack(fractions))

    def cumulative_bounds(self, x: Any) -> tuple[Any, Any]:
        """What the exact measures of these probes, averaged, have at most and at least below x.

        By Chebyshev, Markov and Stieltjes the exact fraction ≤ x lies between the rule's without
        the last node ≤ x and with the first one > x (Chen, Trogdon and Ubaru, ICML 2021). Equal
        where every probe is resolved. The probes' own error, of `cumulative`, comes on top.
        """
        lower, upper = [], []
        for (nodes, w), resolved in zip(self._rules(), self.resolved, strict=True):
            at, total = _up_to(nodes, x), _step(w)
            reach = 0 if resolved else 1
            lower.append(total[np.maximum(at - reach, 0)])
            upper.append(total[np.minimum(at + reach, len(nodes))])
        return np.mean(lower, axis=0)[()], np.mean(upper, axis=0)[()]

    def moment(self, k: int) -> Estimate:
        """(1/n) Σ λᵏ = tr((∇²f)ᵏ)/n, with standard error.

        No error of the quadrature: m nodes are exact up to k = 2m − 1. Raises `ValueError` beyond,
        unless every probe is resolved.
        """
        k = whole("k", k, 0, "a moment's order")
        last = 2 * self.num_matvecs - 1
        if k > last and not np.all(self.resolved):
            raise ValueError(
                f"moment {k} needs num_matvecs={k // 2 + 1}; this quadrature is exact to {last}"
            )
        return _estimate(np.sum(self.weights * self.nodes**k, axis=1))

    def trace(self) -> Estimate:
        """tr ∇²f, with standard error."""
        return _times(self.dimension, self.moment(1))

    def squared_frobenius_norm(self) -> Estimate:
        """‖∇²f‖_F² = Σ λ², with standard error. Needs two products per probe."""
        return _times(self.dimension, self.moment(2))

    def smoothed(self, grid: Any = None, width: float | None = None) -> "SpectralDensity":
        """The same quadrature with another grid or width; no products are needed.

        Raises `ValueError` as `spectral_density` does.
        """
        rules = [
            GaussRule(*rule, bool(r)) for rule, r in zip(self._rules(), self.resolved, strict=True)
        ]
        return smoothed(rules, self.dimension, self.num_matvecs, grid, width)

    def _rules(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rows = zip(self.nodes, self.weights, self.num_nodes, strict=True)
        return [(nodes[:size], weights[:size]) for nodes, weights, size in rows]


def checked_smoothing(grid: Any, width: Any) -> tuple[Grid | None, float | None]:
    """Grid and width as numbers; raises `ValueError` for what are none."""
    if width is not None:
        width = float(width)
        if not (width > 0 and np.isfinite(width)):
            raise ValueError(f"width must be positive and finite, got {width}")
    if grid is not None:
        grid = np.asarray(grid, np.float64)
        if grid.ndim != 1 or not grid.size or not np.all(np.isfinite(grid)):
            raise ValueError(f"grid must be a row of finite numbers, got {grid!r}")
    return grid, width


def smoothed(
    rules: list[GaussRule], size: int, num_matvecs: int, grid: Any, width: Any
) -> SpectralDensity:
    grid, width = checked_smoothing(grid, width)
    low, high = min(r.nodes[0] for r in rules), max(r.nodes[-1] for r in rules)
    resolved = np.array([rule.resolved for rule in rules])
    if width is None:
        width = _default_width(low, high, None if np.all(resolved) else num_matvecs)
    if grid is None:
        grid = _default_grid(low, high, width)
    smooth = np.zeros((len(rules), grid.size))
    # Node after node: memory for the grid only.
    for i, rule in enumerate(rules):
        for node, weight in zip(rule.nodes, rule.weights, strict=True):
            smooth[i] += weight * np.exp(-0.5 * ((grid - node) / width) ** 2)
    value, error = _estimate(smooth / (width * np.sqrt(2 * np.pi)))
    lengths = np.array([len(rule.nodes) for rule in rules])
    fill = [(0, int(np.max(lengths)) - length) for length in lengths]
    nodes = [np.pad(r.nodes, by, mode="edge") for r, by in zip(rules, fill, strict=True)]
    weights = [np.pad(r.weights, by) for r, by in zip(rules, fill, strict=True)]
    return SpectralDensity(
        *(np.stack(nodes), np.stack(weights), lengths, resolved),
        *(size, num_matvecs, grid, value, error, width),
    )


def _default_width(low: float, high: float, num_matvecs: int | None) -> float:
    """`num_matvecs` is None where every probe is resolved."""
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


def _step(weights: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, 2, … weights."""
    return np.concatenate([[0.0], np.cumsum(weights)])


def _up_to(nodes: np.ndarray, x: Any) -> Any:
    """How many nodes are ≤ x."""
    return np.searchsorted(nodes, np.asarray(x, np.float64), side="right")


def _estimate(samples: np.ndarray) -> Estimate:
    """Mean over the leading axis, and standard error."""
    error = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
    return Estimate(np.mean(samples, axis=0)[()], error[()])


def _times(factor: int, of: Estimate) -> Estimate:
    return Estimate(factor * of.value, factor * of.standard_error)


def whole(name: str, value: Any, least: int, why: str) -> int:
    try:
        whole = operator.index(value)
    except TypeError:
        whole = least - 1
    if whole < least:
        raise ValueError(f"{name} must be a whole number ≥ {least} ({why}), got {value!r}")
    return whole
