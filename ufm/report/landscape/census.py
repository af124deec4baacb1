r"""Draw critical points: index against f with the rank ladder, and λ_min against the theory.

Markers show how a point was found, and whether it is a saddle (hollow) or a minimum (filled), so
that colour is not needed to distinguish them. f − f* is logarithmic from the decade of the
lowest saddle on. Below it the axis is linear (shaded), so that it shows the minimum.

At a critical point with rank W < d and σ = ‖G‖₂ the Hessian has the eigenvalue

    λ(σ) = (λ_W+λ_H)/2 − √(((λ_W−λ_H)/2)² + σ²),

negative iff σ > μ. The paper's escape direction has the curvature −2(σ−μ)μ/(λ_W+λ_H) ≥ λ(σ), with
equality for equal decays. λ_min is lower if a direction within the row space is steeper.

    with style():
        figure, (left, right) = plt.subplots(1, 2)
        plot_index(census, left)
        plot_least_curvature([census], right)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ufm.certificates.certificate import Verdict
from ufm.landscape import Census, CriticalPoint
from ufm.model.problem import Problem
from ufm.report._lines import Line, draw_lines
from ufm.report._style import looks

Values = Float[np.ndarray, " _"]

#: Largest ‖G‖₂/μ − 1 of a minimum.
_AT_MINIMUM = 1e-9
#: Length of the linear part of the axis of f − f*, in decades.
_LINEAR = 0.6

_SADDLE: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 0.7, "markersize": 3.6}
_MINIMUM: dict[str, Any] = {"markeredgewidth": 0.0}
#: Looks of points: saddles by the search that found them, other points by their verdict.
LOOKS: dict[str, dict[str, Any]] = {
    "ladder saddle": {"marker": "s", "color": "C0", **_SADDLE},
    "partition saddle": {"marker": "o", "color": "C1", **_SADDLE},
    "other saddle": {"marker": "^", "color": "C2", **_SADDLE},
    "global minimum": {"marker": "*", "color": "black", "markersize": 8.0, **_MINIMUM},
    "other minimum": {"marker": "P", "color": "C3", "markersize": 5.0, **_MINIMUM},
    "undecided": {"marker": "x", "color": "0.4", "markersize": 3.6, "markeredgewidth": 0.8},
}


def kind_of(point: CriticalPoint) -> str:
    """The name of a point's look in `LOOKS`."""
    if point.verdict is Verdict.GLOBAL_MINIMUM:
        return "global minimum"
    if "MINIMUM" in point.verdict.name:
        return "other minimum"
    if point.verdict is not Verdict.STRICT_SADDLE:
        return "undecided"
    if {"ladder", "origin"} & set(point.hits):
        return "ladder saddle"
    return "partition saddle" if "partition" in point.hits else "other saddle"


def excess(census: Census) -> Values:
    """f − f* of every point."""
    return np.array([point.value - lowest(census) for point in census.points])


def lowest(census: Census) -> float:
    """f*, or the lowest known value if f* is unknown."""
    if census.minimum.is_exact:
        return census.minimum.value
    return min([census.minimum.value, *(point.value for point in census.points)])


def plot_index(census: Census, axes: Axes) -> Axes:
    """Draw the index of every point against f − f*, and a named line at the lowest f of every rank.

    These values are the rungs of the ladder; ranks decrease from left to right.
    """
    height = excess(census)
    for kind, at in _by_kind(census.points).items():
        index = [census.points[i].index for i in at]
        axes.plot(height[at], index, linestyle="", clip_on=False, **LOOKS[kind])
    excess_axis(axes, height)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_ylabel("index")
    rungs = [Line(str(r), value - lowest(census)) for r, value in census.ladder.items()]
    draw_lines(axes, rungs, rotation=0.0)
    axes.annotate("rank", (0, 1), (-3, 9), "axes fraction", "offset points", ha="right", fontsize=6)
    return axes


def _by_kind(points: Sequence[CriticalPoint]) -> dict[str, list[int]]:
    """Indices of points by the names of `LOOKS`; saddles come first, to be drawn below."""
    kinds = [kind_of(point) for point in points]
    order = ["other saddle", "partition saddle", *LOOKS]
    return {
        kind: [i for i, other in enumerate(kinds) if other == kind]
        for kind in dict.fromkeys(order)
        if kind in kinds
    }


def excess_axis(axes: Axes, height: Values, vertical: bool = False) -> None:
    """Set the axis of f − f*: logarithmic from the lowest saddle on, linear at the minimum."""
    above = height[height > 1e-9 * max(1.0, float(np.max(height)))]
    least, most = (float(np.min(above)), float(np.max(above))) if above.size else (0.1, 1.0)
    linear = 10.0 ** np.floor(np.log10(least))
    scale = {"linthresh": linear, "linscale": _LINEAR, "subs": range(2, 10)}
    limits = (-0.35 * linear, 1.8 * most)
    if vertical:
        axes.set_yscale("symlog", **scale)
        axes.set_ylim(*limits)
        axes.axhspan(limits[0], linear, color="0.94", linewidth=0, zorder=0)
        axes.set_ylabel(r"$f - f^\star$")
    else:
        axes.set_xscale("symlog", **scale)
        axes.set_xlim(*limits)
        axes.axvspan(limits[0], linear, color="0.94", linewidth=0, zorder=0)
        axes.set_xlabel(r"$f - f^\star$")


def legend_handles(censuses: Sequence[Census]) -> list[Line2D | Patch]:
    """Legend entries for the marks of these censuses, and for the shading."""
    present = {kind_of(point) for census in censuses for point in census.points}
    marks: list[Line2D | Patch] = [
        Line2D([], [], linestyle="", label=kind, **look)
        for kind, look in LOOKS.items()
        if kind in present
    ]
    return [*marks, Patch(color="0.92", label="linear scale")]


# λ_min ---------------------------------------------------------------------------------------


def outside_curvature(problem: Problem, sigma: Values) -> Values:
    """λ(σ) of the module: the least eigenvalue outside the row space."""
    lam_w, lam_h = float(problem.lam_w), float(problem.lam_h)
    return (lam_w + lam_h) / 2 - np.hypot((lam_w - lam_h) / 2, sigma)


def escape_curvature(problem: Problem, sigma: Values) -> Values:
    """−2(σ−μ)μ/(λ_W+λ_H), along the escape direction of Zhou et al. (2022)."""
    mu = float(problem.mu())
    return -2.0 * (sigma - mu) * mu / (float(problem.lam_w) + float(problem.lam_h))


def least_curvatures(census: Census) -> tuple[Values, Values]:
    """‖G‖₂/μ − 1 and −λ_min of the points at which both are positive."""
    shown = [p for p in census.points if p.dual_ratio > 1 + _AT_MINIMUM and p.smallest < 0]
    beyond = np.array([point.dual_ratio - 1.0 for point in shown])
    return beyond, -np.array([point.smallest for point in shown])


def plot_least_curvature(censuses: Sequence[Census], axes: Axes) -> Axes:
    """Draw −λ_min against ‖G‖₂/μ − 1, both logarithmic, one mark per loss, and the theory's curves.

    All problems have the same decays.
    """
    drawn = [least_curvatures(census) for census in censuses]
    for i, (census, (beyond, depth)) in enumerate(zip(censuses, drawn, strict=True)):
        axes.plot(beyond, depth, label=census.problem.loss.label(), **_look(i))
    everything = np.concatenate([beyond for beyond, _ in drawn] or [np.empty(0)])
    axes.set_ylabel(r"$-\lambda_{\min}$")
    axes.set_xlabel(r"$\|G\|_2/\mu - 1$")
    if everything.size:
        axes.set_xscale("log")
        axes.set_yscale("log")
        problem = censuses[0].problem
        x = np.geomspace(0.7 * np.min(everything), 1.4 * np.max(everything), 200)
        sigma = float(problem.mu()) * (1.0 + x)
        axes.plot(
            x,
            -outside_curvature(problem, sigma),
            color="black",
            linewidth=0.7,
            label=r"$\lambda(\sigma)$",
        )
        if float(problem.lam_w) != float(problem.lam_h):
            escape = -escape_curvature(problem, sigma)
            axes.plot(x, escape, color="black", linewidth=0.7, linestyle="--", label="escape")
    return axes


def plot_curvature_ratio(censuses: Sequence[Census], axes: Axes) -> Axes:
    """Draw λ_min/λ(σ) against ‖G‖₂/μ − 1; above 1, a direction in the row space is steeper."""
    most = 1.0
    for i, census in enumerate(censuses):
        beyond, depth = least_curvatures(census)
        sigma = float(census.problem.mu()) * (1.0 + beyond)
        ratio = depth / -outside_curvature(census.problem, sigma)
        most = max(most, float(np.max(ratio, initial=1.0)))
        axes.plot(beyond, ratio, **_look(i))
    axes.axhline(1.0, color="black", linewidth=0.7, zorder=0.5)
    axes.set_ylim(1.0 - 0.1 * max(most - 1.0, 0.1), 1.0 + 1.15 * max(most - 1.0, 0.1))
    if any(least_curvatures(census)[0].size for census in censuses):
        axes.set_xscale("log")
    axes.set_ylabel(r"$\lambda_{\min}/\lambda(\sigma)$")
    axes.set_xlabel(r"$\|G\|_2/\mu - 1$")
    return axes


def _look(i: int) -> dict[str, Any]:
    hollow = {"markerfacecolor": "none", "markeredgewidth": 0.6, "markersize": 3.4 + 0.5 * (i % 4)}
    return looks(i)._asdict() | {"linestyle": "", **hollow}
