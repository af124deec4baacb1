r"""Spectra as tables for a paper: booktabs, one row for each distinct eigenvalue, or for each step.

\usepackage{booktabs}
\input{table.tex}
"""

from collections.abc import Iterator, Sequence

from ufm.model.problem import Problem
from ufm.report.runs.latex import (
    count_in_tex,
    described,
    label_in_tex,
    number_in_tex,
    short_in_tex,
    tabular,
)
from ufm.spectra.along_run import SpectrumPath
from ufm.spectra.at_points import SpectrumRecord

_HEADINGS = ("loss", "eigenvalue", "multiplicity", "error", "comes from")
_STEP_HEADINGS = (
    *("loss", "step", "$f$", r"$\lambda_{\min}$", r"$\lambda_{\max}$"),
    *("negative", "zero", "positive"),
)
#: Most distinct eigenvalues to list, and their number at each end if there are more.
MOST, ENDS = 30, 12
#: Decimals of an eigenvalue.
_DECIMALS = 4


def listed(count: int) -> list[int | None]:
    """Choose the indices of `count` eigenvalues to list; None stands for those left out."""
    return [*range(count)] if count <= MOST else [*range(ENDS), None, *range(count - ENDS, count)]


def eigenvalue_table(records: Sequence[SpectrumRecord]) -> str:
    """Write a row for each distinct eigenvalue of each loss; of many, only those at both ends."""
    comments = [
        f"{described(records[0].problem)}. Needs \\usepackage{{booktabs}}.",
        "error: bound on the distance to an eigenvalue of the Hessian.",
        *map(_how, records),
    ]
    rows = (row for record in records for row in _eigenvalues(record))
    return tabular("lrrrl", _HEADINGS, rows, comments)


def along_table(paths: Sequence[tuple[Problem, SpectrumPath]]) -> str:
    """Write a row for each step of each run: f, both ends, and the counts modulo rotations."""
    comments = [
        f"{described(paths[0][0])}. Needs \\usepackage{{booktabs}}.",
        "Eigenvalues along a run, modulo rotations.",
        *(
            f"{problem.loss.label()}: zero is within {path.zero_tol:.1e}"
            + ("." if path.reliable else ", but an eigenvalue lies within rounding of that.")
            for problem, path in paths
        ),
    ]
    rows = (row for problem, path in paths for row in _steps(problem, path))
    return tabular("lrrrrrrr", _STEP_HEADINGS, rows, comments)


def _how(record: SpectrumRecord) -> str:
    found = record.spectrum
    said = ", ".join(filter(None, (found.method, found.note)))
    return f"{record.problem.loss.label()}: {'' if found.converged else 'NOT CONVERGED: '}{said}."


def _eigenvalues(record: SpectrumRecord) -> Iterator[list[str]]:
    found, label = record.spectrum, label_in_tex(record.problem.loss.label())
    count = len(found.eigenvalues)
    for i in listed(count):
        if i is None:
            yield ["", r"$\vdots$", f"{count_in_tex(count - 2 * ENDS)} more", "", ""]
            continue
        value = float(found.eigenvalues[i])
        yield [
            "" if i else label,
            number_in_tex(0.0 if abs(value) <= found.zero_tol else value, _DECIMALS),
            count_in_tex(int(found.multiplicities[i])),
            number_in_tex(float(found.residuals[i])),
            found.labels[i],
        ]


def _steps(problem: Problem, path: SpectrumPath) -> Iterator[list[str]]:
    for i, step in enumerate(path.step):
        yield [
            "" if i else label_in_tex(problem.loss.label()),
            count_in_tex(int(step)),
            f"${short_in_tex(float(path.value[i]))}$",
            *(number_in_tex(float(x[i]), _DECIMALS) for x in (path.smallest, path.largest)),
            *(count_in_tex(int(x[i])) for x in (path.negative, path.zero, path.positive)),
        ]
