r"""Draw the Hessian of a trained network beside the model's at the minimum of its last layer.

The density of a network's n eigenvalues is known by quadrature, with nodes θ_pk and weights w_pk of
P probes. The figure shows the smoothed count on each side of 0,

    (n/P) Σ_pk w_pk exp(−(log₁₀|λ| − log₁₀|θ_pk|)² / 2σ²),      σ = 0.06 decades,

like `ufm.report.spectra.spectrum` for exact spectra, and the largest eigenvalues individually. The
model's eigenvalues are exact: sticks as high as their multiplicities. Both mark K−1 outliers.

Plain data: `loss`, `num_classes`, `num_parameters`, `nodes` and `weights` (P, m),
`largest_values` (descending), and the model's `eigenvalues` and `multiplicities`, empty if
unknown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm.report._figure import Page, page_files
from ufm.report._style import THIN, TWO_COLUMNS
from ufm.report._table import Table
from ufm.report.networks.curves import loss_looks

Measured = Mapping[str, Any]
Values = Float[np.ndarray, " _"]

#: Width of the smoothing in decades, and number of points per decade.
_SIGMA, _FINE = 0.06, 60
#: Least count to draw, half an eigenvalue, and number of decades below the largest.
_FLOOR, _DECADES = 0.5, 7
#: Resolution of 100 products, relative to the largest eigenvalue
#: (`ufm.networks.measures.curvature`).
_RESOLVED = 1e-3
CAPTION = (
    r"The Hessian of the training objective where training ended (top) beside that of the "
    r"unconstrained feature model at the global minimum of the last layer's problem, its feature "
    r"decay inferred from balance, in units of the training objective (bottom). Top: eigenvalues "
    r"by stochastic Lanczos quadrature, smoothed by 0.06 decades; dashed: $-\lambda$ where it is "
    r"negative; grey: too near 0 for the quadrature to resolve; sticks: the largest, filled the "
    r"first $K-1$. Bottom: exact, as high as their multiplicities."
)


def smoothed_count(each: Measured, sign: int) -> tuple[Values, Values]:
    """|λ| and the smoothed count there, for one sign."""
    nodes, weights = (np.asarray(each[name], float).ravel() for name in ("nodes", "weights"))
    kept = (sign * nodes > 0) & (weights > 0)
    top = np.log10(np.max(np.abs(nodes)))
    x = np.linspace(top - _DECADES, top + 0.3, int(_FINE * (_DECADES + 0.3)))
    if not kept.any():
        return 10.0**x, np.zeros_like(x)
    distance = x[:, None] - np.log10(np.abs(nodes[kept]))[None]
    hills = np.exp(-0.5 * (distance / _SIGMA) ** 2) @ weights[kept]
    return 10.0**x, each["num_parameters"] / len(each["nodes"]) * hills


def plot_network_spectrum(each: Measured, axes: Axes) -> Axes:
    """Draw the smoothed counts of both signs if resolved, and the largest as sticks."""
    largest = np.asarray(each["largest_values"], float)
    least = _RESOLVED * float(np.max(np.abs(each["nodes"])))
    for sign, dashes in ((1, "-"), (-1, (0, (5, 1.5)))):
        x, count = smoothed_count(each, sign)
        shown = (count > _FLOOR) & (x >= least)
        axes.plot(x, np.where(shown, count, np.nan), color="C0", linestyle=dashes)
    axes.axvspan(10.0**-_DECADES * least / _RESOLVED, least, color="0.93", linewidth=0, zorder=0)
    _sticks(axes, largest, np.ones(len(largest)), each["num_classes"] - 1)
    return axes


def plot_model_spectrum(each: Measured, axes: Axes) -> Axes:
    """Draw positive eigenvalues of the model as sticks."""
    values, heights = (np.asarray(each[name], float) for name in ("eigenvalues", "multiplicities"))
    kept = values > 10.0**-_DECADES * np.max(values, initial=0.0)
    _sticks(axes, values[kept], heights[kept], 0)
    return axes


def _sticks(axes: Axes, values: Values, heights: Values, outliers: int) -> None:
    """Draw sticks, with the first `outliers` filled."""
    filled = np.arange(len(values)) < outliers
    axes.vlines(values, _FLOOR, heights, color="0.3", linewidth=THIN)
    for chosen, face in ((filled, "C1"), (~filled, "white")):
        axes.plot(
            values[chosen], heights[chosen], "o", color="C1", markersize=3, markerfacecolor=face,
            markeredgewidth=0.8,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.set_ylim(bottom=_FLOOR)


def hessian_page(measured: Sequence[Measured]) -> Page:
    """A column for each loss: the network above, the model below, on one abscissa."""
    figure = Figure(figsize=(TWO_COLUMNS, 3.4))
    rows = figure.subplots(2, len(measured), sharex="col", sharey="row", squeeze=False)
    labels = [named.label for named in loss_looks(measured).values()]
    for i, each in enumerate(measured):
        plot_network_spectrum(each, rows[0, i]).set_title(labels[i], pad=3)
        plot_model_spectrum(each, rows[1, i]).set_xlabel(r"$|\lambda|$")
    rows[0, 0].set_ylabel("network:\neigenvalues")
    rows[1, 0].set_ylabel("model:\nmultiplicity")
    return figure, [table for each in measured for table in _tables(each)]


def _tables(each: Measured) -> list[Table]:
    """Tabulate the whole smoothed count, including the unresolved part."""
    density = [
        ("network, smoothed", sign * x, count)
        for sign in (-1, 1)
        for x, count in [smoothed_count(each, sign)]
    ]
    largest = np.asarray(each["largest_values"], float)
    parts = [
        *density,
        ("network, largest", largest, np.ones(len(largest))),
        ("model", np.asarray(each["eigenvalues"]), np.asarray(each["multiplicities"])),
    ]
    return [
        {"loss": each["loss"], "what": what, "eigenvalue": x, "count": count}
        for what, x, count in parts
        if len(x)
    ]


def hessian_files(measured: Sequence[Measured]) -> list[tuple[str, bytes]]:
    """Make the files of network-hessian, with losses in the order of `ufm solve`."""
    order = list(loss_looks(measured))
    ordered = sorted(measured, key=lambda each: order.index(str(each["loss"])))
    return page_files("network-hessian", hessian_page, ordered, CAPTION)
