r"""Tables of critical points for a paper: booktabs, one row for each loss, or for each point.

\usepackage{booktabs}
\input{table.tex}
"""

import math
from collections.abc import Sequence

from ufm.certificates.certificate import Verdict
from ufm.landscape import Census, CriticalPoint
from ufm.model.rounding import resolved
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
_POINT_HEADINGS = (
    r"$f-f^\star$",
    "rank",
    "index",
    "zeros",
    r"$\|G\|_2/\mu$",
    r"$\lambda_{\min}$",
    "verdict",
)
_WORDS = {
    Verdict.GLOBAL_MINIMUM: "global minimum",
    Verdict.MINIMUM_ON_CONVEX_REGION: "minimum, convex region",
    Verdict.STRICT_SADDLE: "strict saddle",
    Verdict.LOCAL_MINIMUM: "local minimum",
    Verdict.NOT_CRITICAL: "not critical",
    Verdict.UNDECIDED: "undecided",
}


def landscape_table(censuses: Sequence[Census]) -> str:
    """A row for each loss: points found, by verdict, and the estimated number of missed points."""
    comments = [
        f"{described(censuses[0].problem)}. Needs \\usepackage{{booktabs}}.",
        "points: critical points found, up to symmetry. indices: of the saddles. unseen: estimated "
        "chance (Good, 1953) that another start of the root finder ends at a new point.",
        "lambda_min: of the strict saddle whose smallest eigenvalue is closest to 0.",
    ]
    return tabular("lrllrrrr", _HEADINGS, map(_cells, censuses), comments)


def point_table(census: Census, points: Sequence[CriticalPoint] | None = None) -> str:
    """A row for each point of a census, or for each of the given `points`."""
    shown = census.points if points is None else points
    comments = [
        f"{census.problem.loss.label()}: {described(census.problem)}. Needs booktabs.",
        "zeros: zero eigenvalues, in parentheses those that symmetry forces.",
    ]
    rows = (_point_cells(point, census.minimum.value) for point in shown)
    return tabular("rrrrrrl", _POINT_HEADINGS, rows, comments)


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


def _point_cells(point: CriticalPoint, lowest: float) -> list[str]:
    return [
        number_in_tex(float(resolved(point.value - lowest, lowest))),
        str(point.rank),
        str(point.index),
        f"{point.zero_modes} ({point.gauge_modes})",
        f"{point.dual_ratio:.4g}",
        # If no eigenvalue is negative and some are zero, the smallest is 0.
        number_in_tex(0.0 if point.zero_modes and not point.index else point.smallest),
        _WORDS[point.verdict],
    ]
