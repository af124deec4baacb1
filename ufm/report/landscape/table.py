r"""Tables of critical points for a paper: booktabs, one row for each loss.

\usepackage{booktabs}
\input{table.tex}
"""

import math
from collections.abc import Sequence

from ufm.certificates.certificate import Verdict
from ufm.landscape import Census
from ufm.report.runs.latex import described, label_in_tex, number_in_tex, tabular

_HEADINGS = (
    "loss",
    "points",
    "ranks",
    "indices",
    "saddles",
    "minima",
    r"$\max\lambda_{\min}$",
    "unseen",
)


def landscape_table(censuses: Sequence[Census]) -> str:
    """A row for each loss: points found, by verdict, and the estimated number of missed points."""
    comments = [
        f"{described(censuses[0].problem)}. Needs \\usepackage{{booktabs}}.",
        "points: critical points found, up to symmetry. indices: of the saddles. unseen: estimated "
        "chance (Good, 1953) that another start of the root finder ends at a new point.",
        "lambda_min: of the strict saddle whose smallest eigenvalue is closest to 0.",
    ]
    return tabular("lrllrrrr", _HEADINGS, map(_cells, censuses), comments)


def _cells(census: Census) -> list[str]:
    saddles = [p for p in census.points if p.verdict is Verdict.STRICT_SADDLE]
    minima = [p for p in census.points if "MINIMUM" in p.verdict.name]
    unseen = census.root_finder.unseen
    return [
        label_in_tex(census.problem.loss.label()),
        str(len(census.points)),
        _span([p.rank for p in census.points]),
        _span([p.index for p in saddles]),
        str(len(saddles)),
        str(len(minima)),
        number_in_tex(max((p.smallest for p in saddles), default=math.nan)),
        "--" if math.isnan(unseen) else rf"{100 * unseen:.2g}\,\%",
    ]


def _span(numbers: Sequence[int]) -> str:
    """Write a range from the least to the largest."""
    if not numbers:
        return "--"
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}--{high}"
