r"""A sweep as a table for a paper: booktabs, one row for each family of losses.

\usepackage{booktabs}
\input{table.tex}
"""

from typing import Any

from ufm.report.runs.latex import number_in_tex, tabular
from ufm.sweep.problems.summary import summarise
from ufm.sweep.store import SweepStore

_HEADINGS = (
    "loss",
    "runs",
    "global",
    "predicted",
    r"$\max$ gap",
    r"$\max|f-f^\star|$",
    r"$\mathcal{NC}_1$",
    r"$\mathcal{NC}_2$",
    r"$\mathcal{NC}_3$",
)


def sweep_table(store: SweepStore) -> str:
    """Make a `tabular` of the worst run of each family, as on the page."""
    comments = [
        "Needs \\usepackage{booktabs}. global: runs proven to end at a global minimum. predicted: "
        "runs with the predicted geometry, of those whose minimiser is known. Numbers are the "
        "largest of all runs; NC of runs whose minimum is not the origin.",
    ]
    return tabular("lrrrrrrrr", _HEADINGS, map(_cells, summarise(store)), comments)


def _cells(row: dict[str, Any]) -> list[str]:
    checked = row["cells"] - row["unchecked"]
    numbers = (row[name] for name in ("max_gap", "max_excess", "nc1", "nc2", "nc3"))
    return [
        row["loss"].upper(),
        f"{row['cells']}",
        f"{row['global']}",
        f"{row['matches']} of {checked}" if checked else "--",
        *map(number_in_tex, numbers),
    ]
