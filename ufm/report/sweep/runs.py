"""Draw one problem of each loss of a sweep: convergence of its runs, and its Hessian's spectrum."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool
from markupsafe import Markup
from matplotlib.axes import Axes

from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.problem import Problem
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.report._svg import panel
from ufm.report._words import counted, span
from ufm.report.phase.axis import Table
from ufm.report.runs.convergence import (
    gap_curves,
    gradient_curves,
    plot_gap,
    plot_gradient_norm,
)
from ufm.report.runs.latex import described
from ufm.report.spectra.spectrum import legend_handles, plot_spectrum
from ufm.solvers import History
from ufm.spectra.at_points import record_at
from ufm.sweep.store import SweepStore


@dataclasses.dataclass(frozen=True)
class _Runs:
    """Stored runs of one problem, in the form for `ufm.report.runs.convergence`."""

    problem: Problem
    minimum: GlobalMinimum
    history: History


def thumbnails(store: SweepStore, number: int, cells: Table) -> dict[str, Any]:
    """Draw convergence and spectrum of the hardest problem of the page's `number`-th loss."""
    first = _hardest(cells)
    row = {name: column[first] for name, column in cells.items()}
    same = same_problem(cells, first)
    problem = ProblemSpec.from_row(row).problem()
    return {
        "label": problem.loss.label(),
        "settings": described(problem).replace("lambda", "λ").replace("tau", "τ"),
        "cell": row["cell"].item(),
        "count": int(same.sum()),
        "figures": list(_convergence(store, number, problem, cells["cell"][same])),
        "spectrum": _spectrum(problem, number),
    }


def _hardest(cells: Table) -> int:
    """A run that fell short if there is one, or else the longest that did not end at the origin."""
    short = np.flatnonzero(cells["verdict"] != "GLOBAL_MINIMUM")
    if short.size:
        return int(short[0])
    steps = np.where(cells["kind"] == "origin", -1, cells["steps"])
    return int(np.argmax(steps))


def same_problem(cells: Table, position: int) -> Bool[np.ndarray, " r"]:
    """Mask of the runs with the same problem as the run at `position`; NaN (no bias) equals NaN."""
    equal = []
    for name in decisive(cells):
        column = cells[name]
        mine = column[position]
        equal.append(np.isnan(column) if mine != mine else column == mine)
    return np.all(equal, axis=0)


def _convergence(
    store: SweepStore, number: int, problem: Problem, cells: np.ndarray
) -> Iterator[Markup]:
    histories = [store.arrays(int(cell)) for cell in cells]
    if not all("history_step" in arrays for arrays in histories):
        return
    runs = _Runs(problem, global_minimum(problem), _stacked(histories))
    for name, plot, curves in (
        ("f − f*", plot_gap, gap_curves(runs)),
        ("gradient norm", plot_gradient_norm, gradient_curves(runs)),
    ):
        ends = span([curve[-1, 1] for curve in curves])
        yield panel(
            f"runs-{plot.__name__}-{number}",
            f"{name} along {counted(len(curves), 'run')} under {problem.loss.label()}: {ends} at "
            "the end",
            lambda axes, plot=plot: plot([runs], axes),
        )


def _stacked(histories: list[dict[str, np.ndarray]]) -> History:
    """Stack histories of different lengths, padded as in the solvers."""
    longest = max(len(arrays["history_step"]) for arrays in histories)

    def column(name: str, missing: Any) -> np.ndarray:
        pieces = [arrays[f"history_{name}"] for arrays in histories]
        return np.stack([np.pad(x, (0, longest - len(x)), constant_values=missing) for x in pieces])

    columns = {"step": -1, "products": -1, "value": np.nan, "grad_norm": np.nan}
    return History(**{name: jax.device_put(column(name, x)) for name, x in columns.items()})


def _spectrum(problem: Problem, number: int) -> Markup | None:
    """The Hessian's spectrum at the global minimum, if theory or K columns give it."""
    try:
        spectrum = record_at(problem).spectrum
    except ValueError:
        return None

    def draw(axes: Axes) -> None:
        plot_spectrum(spectrum, axes)
        handles = legend_handles([spectrum])
        axes.figure.legend(handles=handles, loc="outside upper center", ncols=2)

    said = (
        f"Hessian at the minimum of {problem.loss.label()}: "
        f"{counted(len(spectrum.eigenvalues), 'distinct eigenvalue')}, {span(spectrum.eigenvalues)}"
    )
    return panel(f"spectrum-{number}", said, draw)
