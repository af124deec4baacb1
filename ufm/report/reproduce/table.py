r"""The verdicts on published claims as a table for a paper: booktabs, a row for each claim.

\usepackage{booktabs}
\input{table.tex}
"""

from collections.abc import Sequence

from ufm.report.runs.latex import number_in_tex, tabular
from ufm.reproduce import Judgement, Result

_HEADINGS = ("source", "claim", "verdict", "numbers that agree", "largest difference")


def claims_table(results: Sequence[Result]) -> str:
    """Make a row for each claim, with how many of its numbers agree."""
    comments = [
        "confirmed: these numbers did not contradict the claim, which proves no theorem.",
        "source: the keys of `ufm reproduce`. Needs \\usepackage{booktabs}.",
        *(f"{x.paper.key}: arXiv:{x.paper.arxiv}" for x in _first_of_papers(results)),
    ]
    return tabular("lllrr", _HEADINGS, map(_cells, results), comments)


def _first_of_papers(results: Sequence[Result]) -> list[Result]:
    return list({x.paper.key: x for x in reversed(results)}.values())[::-1]


def _cells(result: Result) -> list[str]:
    compared = [row for row in result.finding.rows if row.difference is not None]
    verdict = result.finding.judgement
    worst = max((abs(float(row.difference or 0.0)) for row in compared), default=0.0)
    return [
        result.paper.key,
        result.claim.name,
        verdict.value if verdict is Judgement.CONFIRMED else rf"\textbf{{{verdict.value}}}",
        f"{sum(row.agrees for row in compared)}/{len(compared)}",
        number_in_tex(worst),
    ]
