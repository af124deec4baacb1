r"""Draw spectra: an eigenvalue is a stick as high as its multiplicity, over a smoothed count.

The abscissa is logarithmic on either side of a linear part about 0 (shaded), the ordinate is
logarithmic. The shaded hills are the exact spectrum smoothed, on each side of 0,

    Σ_i m_i exp(−(log₁₀|λ| − log₁₀|λ_i|)² / 2σ²),      σ = 0.06 decades,

so that the hill of a single eigenvalue is as high as its stick, and those of close ones add up. (A
density estimated by quadrature has the same resolution in λ everywhere. On logarithmic axes it
resolves nothing below a hundredth of the largest eigenvalue, and the exact spectrum needs no
estimate.)

    with style():
        figure, axes = plt.subplots()
        plot_spectrum(spectrum(problem), axes, theory_lines(problem, spectrum(problem)))
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from ufm.hessian import Spectrum
from ufm.model.problem import Problem
from ufm.report._lines import Line, Values, draw_lines, places
from ufm.report._table import Table

#: Standard deviation of the smoothing, in decades, and the base of hills and sticks.
_WIDTH, _FLOOR = 0.06, 0.5
#: Size of the linear part of the abscissa on either side of 0, in decades.
_LINEAR = 0.5
#: Points of a hill for each decade.
_FINE = 60
#: Least distance of two labels of the abscissa, in points.
_TICKS_APART = 21.0
#: Least length of a decade that has ticks at its multiples, in points.
_DECADE = 18.0

#: Styles of eigenvalues by sign, and of zeros with and without an explanation by symmetry.
_LOOK: dict[str, dict[str, Any]] = {
    "negative": {"color": "C1", "marker": "s"},
    "zero by symmetry": {"color": "0.45", "marker": "D"},
    "other zeros": {"color": "C3", "marker": "X"},
    "positive": {"color": "C0", "marker": "o"},
}

#: Labels of the parts of the closed form in figures.
_TEX = {
    "deviations from class means: λ_H + s²χ₁": r"\lambda_H{+}s^2\chi_1",
    "deviations from class means: λ_H + s²χ₂": r"\lambda_H{+}s^2\chi_2",
}


class Sticks(NamedTuple):
    """Positions and heights of the sticks of one kind."""

    values: Values
    heights: Int[np.ndarray, " _"]


def sticks(spectrum: Spectrum) -> dict[str, Sticks]:
    """Eigenvalues and multiplicities by kind; all zeros are at 0, in two sticks at most."""
    values, counts = spectrum.eigenvalues, spectrum.multiplicities
    negative, positive = values < -spectrum.zero_tol, values > spectrum.zero_tol
    zeros = spectrum.zero
    if zeros is None:  # not counted: use those that were found
        zeros = int(np.sum(counts[~negative & ~positive]))
    forced = min(zeros, spectrum.gauge_dimension)
    return {
        "negative": Sticks(values[negative], counts[negative]),
        "zero by symmetry": _at_zero(forced),
        "other zeros": _at_zero(zeros - forced),
        "positive": Sticks(values[positive], counts[positive]),
    }


def _at_zero(count: int) -> Sticks:
    found = [count] if count else []
    return Sticks(np.zeros(len(found)), np.array(found, np.int64))


def hill(at: Values, found: Sticks) -> Values:
    """The smoothed count of the module's formula at the points `at`, all of one sign."""
    distance = np.log10(np.abs(at))[:, None] - np.log10(np.abs(found.values))[None, :]
    return np.exp(-(distance**2) / (2 * _WIDTH**2)) @ found.heights


def spectrum_table(label: str, spectrum: Spectrum) -> Table:
    """One row for each distinct eigenvalue, ascending; `kind` as it is drawn."""
    values = spectrum.eigenvalues
    signs = np.where(values < -spectrum.zero_tol, 0, np.where(values > spectrum.zero_tol, 2, 1))
    return {
        "loss": label,
        "eigenvalue": values,
        "multiplicity": spectrum.multiplicities,
        "residual": spectrum.residuals,
        "sign": np.array(["negative", "zero", "positive"])[signs],
        "label": np.array(spectrum.labels),
    }


def theory_lines(
    problem: Problem, spectrum: Spectrum, escape: float | None = None
) -> tuple[Line, ...]:
    """λ_W, λ_H, λ_W + λ_H and the eigenvalues of the closed form that have names of their own.

    Only those that are eigenvalues are drawn; names of equal ones are joined. `escape` is the
    curvature along the theory's escape direction, which need not be an eigenvalue.
    """
    decays = {r"\lambda_H": problem.lam_h, r"\lambda_W": problem.lam_w}
    named = [(name, float(decay)) for name, decay in decays.items() if decay is not None]
    total = sum(decay for _, decay in named)
    if len(named) == 2:
        named.append((r"\lambda_W{+}\lambda_H", total))
    for value, parts in zip(spectrum.eigenvalues, spectrum.parts, strict=True):
        named += [(_TEX[part], float(value)) for part in parts if part in _TEX]
    tol = max(spectrum.zero_tol, 1e-6 * total)
    present = [
        (name, value)
        for name, value in named
        if np.min(np.abs(spectrum.eigenvalues - value), initial=np.inf) <= tol
    ]
    joined: list[tuple[list[str], float]] = []
    for name, value in present:
        same = next((names for names, other in joined if abs(other - value) <= tol), None)
        if same is None:
            joined.append(([name], value))
        else:
            same.append(name)
    lines = [Line(_joined(names), value) for names, value in joined]
    if escape is not None:
        lines.append(Line("escape", escape))
    return tuple(lines)


def _joined(names: Sequence[str]) -> str:
    if set(names) == set(_TEX.values()):
        return r"$\lambda_H{+}s^2\chi_{1,2}$"
    return "$" + "=".join(names) + "$"


def plot_spectrum(
    spectrum: Spectrum,
    axes: Axes,
    lines: Sequence[Line] = (),
    limits: tuple[float, float, float] | None = None,
) -> Axes:
    """Draw sticks, hills and the lines of theory; `limits` None are those of the spectrum."""
    low, high, linear = limits or common_limits([spectrum])
    axes.set_xscale("symlog", linthresh=linear, linscale=_LINEAR)
    axes.set_xlim(low, high)
    axes.set_yscale("log")
    axes.axvspan(-linear, linear, color="0.94", linewidth=0, zorder=0)
    drawn = sticks(spectrum)
    for kind, found in drawn.items():
        _draw(axes, kind, found, linear, smooth=spectrum.complete and "zero" not in kind)
    tallest = max((int(np.max(x.heights)) for x in drawn.values() if x.heights.size), default=1)
    axes.set_ylim(_FLOOR, 3.0 * tallest)
    _tick(axes, low, high, linear)
    axes.set_xlabel(r"eigenvalue of $\nabla^2 f$")
    axes.set_ylabel("multiplicity")
    draw_lines(axes, lines)
    return axes


def common_limits(spectra: Sequence[Spectrum]) -> tuple[float, float, float]:
    """Common ends of the abscissa and size of its linear part, for spectra below each other."""
    nonzero = [x.eigenvalues[np.abs(x.eigenvalues) > x.zero_tol] for x in spectra]
    values = np.concatenate(nonzero)
    if not values.size:
        return -1.0, 1.0, 0.1
    linear = 10.0 ** np.floor(np.log10(np.min(np.abs(values))) - 0.05)
    lowest, highest = float(np.min(values)), float(np.max(values))
    low = min(2.0 * lowest, -2.0 * linear) if lowest < 0 else -0.5 * linear
    return low, max(2.0 * highest, 2.0 * linear), float(linear)


def legend_handles(spectra: Sequence[Spectrum]) -> list[Line2D | Patch]:
    """Draw the legend of the sticks of these spectra, and of the shading."""
    drawn = [sticks(each) for each in spectra]
    kinds = [kind for kind in _LOOK if any(each[kind].heights.size for each in drawn)]
    handles: list[Line2D | Patch] = [
        Line2D([], [], linestyle="", markersize=3.5, markeredgewidth=0, label=kind, **_LOOK[kind])
        for kind in kinds
    ]
    return [*handles, Patch(color="0.92", label="linear scale")]


def _draw(axes: Axes, kind: str, found: Sticks, linear: float, smooth: bool) -> None:
    if not found.heights.size:
        return
    look = _LOOK[kind]
    if smooth:
        # Every peak is on the grid, so that a hill ends at the top of its stick.
        ends = np.log10([np.min(np.abs(found.values)), np.max(np.abs(found.values))])
        first = max(ends[0] - 6 * _WIDTH, np.log10(linear))
        grid = np.linspace(first, ends[1] + 6 * _WIDTH, 2 + int(_FINE * (ends[1] - first + 1)))
        sign = np.sign(found.values[0])
        x = sign * np.unique(np.concatenate([10.0**grid, np.abs(found.values)]))
        axes.fill_between(
            x, _FLOOR, np.maximum(hill(x, found), _FLOOR), color=look["color"], alpha=0.2, lw=0
        )
    # Zeros of both kinds have the same position: the wide stick is that of the symmetries.
    width = 2.4 if kind == "zero by symmetry" else 0.8
    axes.vlines(found.values, _FLOOR, found.heights, color=look["color"], linewidth=width)
    axes.plot(
        found.values,
        found.heights,
        linestyle="",
        markersize=3,
        markeredgewidth=0,
        label=kind,
        **look,
    )


def _tick(axes: Axes, low: float, high: float, linear: float) -> None:
    """0, and powers of ten outside the linear part if there is room; multiples are small ticks."""
    decades = 10.0 ** np.arange(np.round(np.log10(linear)), np.ceil(np.log10(max(high, -low))) + 1)
    decades = np.concatenate([-decades[::-1], decades])
    shown = decades[(decades >= low) & (decades <= high)]
    outward = np.concatenate([shown[shown < 0], shown[shown > 0][::-1]])  # the ends come first
    kept, taken = [0.0], list(places(axes, np.zeros(1)))
    for tick, place in zip(outward, places(axes, outward), strict=True):
        if min(abs(place - other) for other in taken) >= _TICKS_APART:
            kept.append(tick)
            taken.append(place)
    axes.xaxis.set_major_locator(FixedLocator(sorted(kept)))
    first, second = places(axes, linear * np.array([10.0, 100.0]))
    multiples = np.arange(1.0, 10.0) if second - first >= _DECADE else np.ones(1)
    small = np.outer(shown, multiples).ravel()
    axes.xaxis.set_minor_locator(
        FixedLocator(sorted(small[(small >= low) & (small <= high)].tolist()))
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _: int | None = None) -> str:
    if value == 0:
        return "$0$"
    sign = "-" if value < 0 else ""
    return rf"${sign}10^{{{int(np.round(np.log10(abs(value))))}}}$"
