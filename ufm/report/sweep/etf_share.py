r"""Draw how often runs with hidden layers end at the simplex ETF, over two fields of a sweep.

The ETF is a local minimum of deep linear models up to a decay (`ufm.deep_phases`), where another
structure is often lower, so that the width and the scale of the start decide where a run ends
(Garrod & Keating, 2025).

    share_files(store.table())
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ufm.losses import CrossEntropy, LabelSmoothing
from ufm.model.problem import Problem
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN, TWO_COLUMNS
from ufm.report.phase.axis import Table
from ufm.report.phase.diagram import Diagram, diagram
from ufm.report.phase.view import plot_phase
from ufm.variants.deep.factors import number_of_factors
from ufm.variants.deep.minimum import relative_decay
from ufm.variants.deep.phases import etf_local_limit

CAPTION = (
    r"Share of runs from random starts that end at the simplex ETF, with hidden layers. Dotted: "
    r"the decay up to which the ETF is a local minimum, without bias."
)
#: For a threshold in the range.
_DASHED = " Dashed: the decay from which the origin is the best of known points."


class Share(NamedTuple):
    """The share of a loss, and the abscissa up to which the ETF is a local minimum (or NaN)."""

    label: str
    found: Diagram
    limit: float


def shares(table: Table) -> list[Share]:
    """One for each loss of a sweep with hidden layers over two fields; none for other sweeps."""
    if "lam_hidden" not in table:
        return []
    found = []
    for label in dict.fromkeys(table["loss"].tolist()):
        rows = {name: column[table["loss"] == label] for name, column in table.items()}
        each = diagram(rows, "etf")
        if each is not None and each.plane.y is not None:
            problems = [
                ProblemSpec.from_row({name: rows[name][i].item() for name in decisive(rows)})
                for i in range(len(rows["cell"]))
            ]
            of_rows = [spec.problem() for spec in dict.fromkeys(problems)]
            limit = _limit(of_rows) if each.plane.x.name == "lam_w" else float("nan")
            found.append(Share(of_rows[0].loss.label(), each, limit))
    return found


def _limit(problems: Sequence[Problem]) -> float:
    """λ_W at the limit, if the decays are λ_W times constants and nothing else shifts the limit."""
    limits = set()
    for problem in problems:
        plain = isinstance(problem.loss, CrossEntropy | LabelSmoothing) and not problem.has_bias
        if not plain or problem.per_class is None or problem.num_classes < 3:
            return float("nan")
        limit = etf_local_limit(problem.num_classes, number_of_factors(problem), problem.loss)
        limits.add(float(f"{float(problem.lam_w) * limit / relative_decay(problem):.9g}"))
    return limits.pop() if len(limits) == 1 else float("nan")


def share_page(found: Sequence[Share]) -> Page:
    """A panel for each loss."""
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(COLUMN if columns == 1 else TWO_COLUMNS, 0.2 + 2.2 * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    tables = []
    for unused in panels[len(found) :]:
        unused.set_axis_off()
    for axes, (label, each, limit) in zip(panels, found, strict=False):
        plot_phase(each, axes, (0.0, 1.0))
        line: dict[str, Any] = {"color": "black", "linewidth": 1.1, "linestyle": ":"}
        if np.isfinite(limit):
            axes.axvline(limit, **line)
        axes.set_title(label, pad=2)
        assert each.plane.y is not None  # as `shares` chose them
        names = each.plane.x.name, each.plane.y.name
        columns_of = {"loss": label, names[0]: each.x, names[1]: each.y}
        tables.append({**columns_of, "share": each.value, "etf_is_local_below": limit})
    return figure, tables


def share_files(found: Sequence[Share]) -> list[tuple[str, bytes]]:
    """Make the files of etf-share."""
    dashed = _DASHED if any(each.found.curve.size for each in found) else ""
    return page_files("etf-share", share_page, found, CAPTION + dashed)
