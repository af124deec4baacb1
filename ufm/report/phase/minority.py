r"""Draw which classes have merged over ratio of class sizes and decay, with the exact thresholds.

Large and small classes have two sizes, the large one fixed. The lines are
`ufm.minimum.minority_thresholds` where it is exact: two classes of one size merge, or vanish, at
and above them. The points are stored runs that are proven global minima.

    for found in phases(store): phase_files(found)
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm.minimum.minority_thresholds import minority_thresholds
from ufm.minimum.size_geometry import SizeGeometry
from ufm.model.problem import Problem
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN, looks
from ufm.report._table import Table
from ufm.report.runs.captions import OBJECTIVE

#: A norm below this fraction of the large classes' is zero, an angle below it (radians) too: runs
#: stop at square roots of 1e-10.
_ZERO = 1e-3
#: Ratios of a line.
_DENSE = 61
#: States of the small classes, from small decays to large ones; lines by size and event.
STATES = ("all classes distinct", "small classes merged", "small classes vanished", "the origin")
_FILLED = (False, True, True, False)
CAPTION = (
    r"Minority collapse over the ratio of the class sizes and the decay $\mu=\sqrt{\lambda_W"
    r"\lambda_H}$. Lines: the exact thresholds, from which on classes of one size have the same "
    r"classifier and class mean, or none (for cross-entropy $\sqrt{n_k}/N$). Marks: runs from "
    r"random starts that are proven global minima, by what their small classes are. "
    rf"{OBJECTIVE}."
)


@dataclasses.dataclass(frozen=True)
class MinorityPhases:
    """Runs of one loss by ratio, decay and state (an index in `STATES`), and exact lines.

    `lines` has a row of (ratio, μ) for each name, such as "small classes merge".
    """

    label: str
    ratio: Float[np.ndarray, " r"]
    mu: Float[np.ndarray, " r"]
    state: Float[np.ndarray, " r"]
    lines: dict[str, Float[np.ndarray, "_ 2"]]


def state_of(found: SizeGeometry, is_origin: bool) -> int:
    """The state of the small classes at a point."""
    if is_origin:
        return 3
    if any(small <= _ZERO * large for large, small in (found.norm_w, found.norm_h)):
        return 2
    return int(found.cosine_w[2] >= 1.0 - 0.5 * _ZERO**2)


def exact_lines(
    problem: Problem, large: Sequence[bool], ratios: Sequence[float]
) -> dict[str, Float[np.ndarray, "_ 2"]]:
    """Thresholds over the ratio, large classes as in the problem, where they are exact."""
    mask, counts = np.asarray(large), np.asarray(problem.class_counts, float)
    found: dict[str, list[tuple[float, float]]] = {}
    for ratio in np.geomspace(max(min(ratios), 1.0 + 1e-6), max(ratios), _DENSE).tolist():
        sizes = np.where(mask, counts.max(), counts.max() / ratio)
        weighted = dataclasses.replace(
            problem, class_counts=(1,) * len(counts), column_weights=jnp.asarray(sizes)
        )
        for row in minority_thresholds(weighted, exact_only=True).rows:
            size = "large" if row.size == sizes.max() else "small"
            if row.is_exact and len(row.classes) > 1:
                found.setdefault(f"{size} classes {row.event}", []).append((ratio, row.mu))
    return {name: np.array(points) for name, points in found.items()}


def plot_phases(found: MinorityPhases, axes: Axes) -> Axes:
    """Draw lines and marks, both axes logarithmic."""
    for place, (name, line) in enumerate(found.lines.items()):
        look = looks(place)
        axes.plot(*line.T, color=look.color, linestyle=look.linestyle, label=name)
    for place, name in enumerate(STATES):
        here, look = found.state == place, looks(place)
        if here.any():
            inside = look.color if _FILLED[place] else "none"
            axes.plot(
                found.ratio[here], found.mu[here], label=name, color=look.color, linestyle="",
                marker=look.marker, markerfacecolor=inside, markersize=3.5, markeredgewidth=0.8,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("samples of a large class / of a small class")
    axes.set_ylabel(r"$\mu=\sqrt{\lambda_W\lambda_H}$")
    axes.set_title(found.label, loc="left", pad=3)
    return axes


def phase_page(found: MinorityPhases) -> Page:
    """One diagram with its legend above."""
    figure = Figure(figsize=(COLUMN, 3.4))
    axes = plot_phases(found, figure.subplots())
    figure.legend(handles=axes.get_legend_handles_labels()[0], loc="outside upper center", ncols=2)
    return figure, [*_tables(found)]


def _tables(found: MinorityPhases) -> Iterator[Table]:
    runs: dict[str, Any] = {"loss": found.label, "what": "run", "ratio": found.ratio}
    yield runs | {"mu": found.mu, "state": np.array(STATES)[found.state.astype(int)]}
    for name, line in found.lines.items():
        states = np.array([name] * len(line))
        yield {"loss": found.label, "what": "line", "ratio": line[:, 0]} | {
            "mu": line[:, 1], "state": states
        }  # fmt: skip


def phase_files(found: MinorityPhases, suffix: str = "") -> list[tuple[str, bytes]]:
    """Make the files; `suffix` ends the name, for one of several losses."""
    return page_files(f"minority-phases{suffix}", phase_page, found, CAPTION)
