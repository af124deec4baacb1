r"""Draw angles and norms of large and small classes along a path of decays, with their limit.

Marks are the certified minima of `ufm.decay_path`, dashed lines the limit at zero decay, and dotted
lines the first-order formula (`ufm.zero_decay_limit`), where it is defined.

    decay_files(ufm.decay_path(problem, np.geomspace(1e-2, 1e-10, 17)))
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ufm.minimum.decay_path import DecayPath
from ufm.minimum.size_geometry import PAIRS, SizeGeometry
from ufm.minimum.zero_decay_limit import ZeroDecayLimit, zero_decay_limit
from ufm.report._figure import Page, page_files
from ufm.report._style import TWO_COLUMNS, looks
from ufm.report._table import Table
from ufm.report.runs.captions import OBJECTIVE

#: By name of curve: minima, formula and limit at each decay.
Curves = dict[str, dict[str, Float[np.ndarray, " T"]]]

#: Names of curves, by panel: cosines of w_k, cosines of h̄_k, ratios of norms, distance.
PANELS = {
    "cosine_w": PAIRS,
    "cosine_h": PAIRS,
    "ratio": ("classifier", "class means"),
    "distance": ("distance",),
}
_LABELS = {
    "cosine_w": "cosine of $w_k$",
    "cosine_h": r"cosine of $\bar h_k$",
    "ratio": "norm, large / small",
    "distance": "distance from the limit",
}
_LIMIT, _FORMULA = (0, (5, 1.5)), (0, (1, 1.2))
CAPTION = (
    r"The global minimum as the decay $\mu=\sqrt{\lambda_W\lambda_H}$ falls: cosines of classifier "
    r"rows $w_k$ and of class means $\bar h_k$ among large and small classes, ratios of norms, "
    r"and the distance from the limit at zero decay. Marks: certified minima. Dashed: the limit. "
    rf"Dotted: the first-order formula. {OBJECTIVE}."
)


def curves(path: DecayPath, limit: ZeroDecayLimit) -> dict[str, Curves]:
    """By panel "minimum", "formula" (NaN where undefined) and "limit", with a value per decay."""
    sources = {
        "minimum": [
            _numbers(path.geometry(i), limit.distance(Z)) for i, Z in enumerate(path.logits)
        ],
        "formula": [_formula(limit, mu) for mu in path.decays.tolist()],
        "limit": [_numbers(limit.geometry(), np.nan)] * len(path.decays),
    }
    return {
        panel: {
            source: dict(zip(names, np.array([x[panel] for x in numbers]).T, strict=True))
            for source, numbers in sources.items()
        }
        for panel, names in PANELS.items()
    }


def _formula(limit: ZeroDecayLimit, mu: float) -> dict[str, list[float]]:
    try:
        near = limit.first_order(mu)
    except ValueError:
        return {panel: [np.nan] * len(names) for panel, names in PANELS.items()}
    return _numbers(near.geometry(), limit.distance(near.logits))


def _numbers(found: SizeGeometry, distance: float) -> dict[str, list[float]]:
    """The numbers of each panel."""
    return {
        "cosine_w": found.cosine_w.tolist(),
        "cosine_h": found.cosine_h.tolist(),
        "ratio": [found.ratio_w, found.ratio_h],
        "distance": [distance],
    }


def plot_decay(
    path: DecayPath, panel: str, axes: Axes, limit: ZeroDecayLimit | None = None
) -> Axes:
    """Draw one of `PANELS` against the decay."""
    found = curves(path, limit or zero_decay_limit(path.problem))[panel]
    for place, name in enumerate(PANELS[panel]):
        look, mu = looks(place), path.decays
        axes.plot(
            mu, found["minimum"][name], color=look.color, marker=look.marker, markersize=3.5,
            markerfacecolor="none", linestyle="-", linewidth=0.8, label=name,
        )  # fmt: skip
        axes.plot(mu, found["formula"][name], color=look.color, linestyle=_FORMULA)
        axes.plot(mu, found["limit"][name], color=look.color, linestyle=_LIMIT, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylabel(_LABELS[panel])
    if panel == "distance":
        axes.set_yscale("log")
    return axes


def decay_legend() -> list[Line2D]:
    """Legend entries for the lines of `plot_decay` that have no marks."""
    return [
        Line2D([], [], color="black", linestyle=style, label=name)
        for style, name in ((_LIMIT, "limit"), (_FORMULA, "first-order formula"))
    ]


def decay_page(path: DecayPath) -> Page:
    """Cosines above, ratios of norms and the distance from the limit below."""
    limit = zero_decay_limit(path.problem)
    figure = Figure(figsize=(TWO_COLUMNS, 4.0))
    grid = figure.subplots(2, 2, sharex=True)
    for axes, panel in zip(grid.ravel(), PANELS, strict=True):
        plot_decay(path, panel, axes, limit)
    for axes in grid[1]:
        axes.set_xlabel(r"$\mu=\sqrt{\lambda_W\lambda_H}$")
    grid[0, 0].set_title(path.problem.loss.label(), loc="left", pad=3)
    grid[1, 0].legend()
    pairs = grid[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles=[*pairs, *decay_legend()], loc="outside upper center", ncols=5)
    return figure, [*_tables(path, curves(path, limit))]


def _tables(path: DecayPath, found: dict[str, Curves]) -> Iterator[Table]:
    for source in ("minimum", "formula", "limit"):
        columns: dict[str, Any] = {
            "loss": path.problem.loss.label(), "what": source, "mu": path.decays
        }  # fmt: skip
        for panel, of in found.items():
            for name, values in of[source].items():
                columns[f"{panel}_{name.replace(', ', '_').replace(' ', '_')}"] = values
        yield columns


def decay_files(path: DecayPath) -> list[tuple[str, bytes]]:
    """Make the figure's files: CSV, caption, PNG, PDF and SVG."""
    return page_files("decay-path", decay_page, path, CAPTION)
