r"""Minima that are not global as a table for a paper: booktabs, one row for each.

\usepackage{booktabs}
\input{table.tex}
"""

import math
from collections.abc import Sequence

from ufm.counterexamples.found import Hunt, SpuriousMinimum
from ufm.counterexamples.interval import End, Interval
from ufm.report.runs.latex import label_in_tex, number_in_tex, short_in_tex, tabular

_HEADINGS = (
    *("loss", "$K$", r"$\mu\sqrt{n}$", "local minimum", "$f-f'$"),
    *("from", "to", "below", "above"),
)
#: Relative error of the numbers of a row, which have six digits.
_SIX_DIGITS = 1e-6


def hunt_table(found: Hunt, intervals: Sequence[tuple[SpuriousMinimum, Interval | str]]) -> str:
    """Write a row for each minimum; `intervals` has that of some, or why it is unknown."""
    known = {id(minimum): interval for minimum, interval in intervals}
    comments = [
        "Needs \\usepackage{booktabs}. f': the value of another point, which is lower. "
        "mu sqrt(n) is Lambda n^(1/M) with M factors.",
        "from, to: ends of the interval of mu sqrt(n) in which the point is a local minimum that "
        "is not global; -- if unknown. below, above: the event at either end.",
        found.explain(),
    ]
    rows = (_cells(each, known.get(id(each))) for each in found.found)
    return tabular("lrrlrrrll", _HEADINGS, rows, comments)


def _cells(each: SpuriousMinimum, interval: Interval | str | None) -> list[str]:
    p = each.problem
    ends = (
        [
            *(_end(interval.lower, r"\leq"), _end(interval.upper, r"\geq")),
            *(interval.lower.event, interval.upper.event),
        ]
        if isinstance(interval, Interval)
        else ["--"] * 4
    )
    return [
        label_in_tex(each.model),
        str(p.num_classes),
        f"${short_in_tex(each.rate)}$",
        each.kind,
        number_in_tex(each.excess),
        *ends,
    ]


def _end(end: End, beyond: str) -> str:
    """Write the known digits of an end; for one that was not reached, a bound on it."""
    if not end.reached:
        return rf"${beyond} {short_in_tex(end.inside)}$"
    digits = max(1, math.floor(-math.log10(max(end.error, _SIX_DIGITS))))
    return f"${short_in_tex(end.rate, digits)}$"
