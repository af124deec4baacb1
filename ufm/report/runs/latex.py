r"""The table of a run for a paper: booktabs, one row for each loss.

\usepackage{booktabs}
\input{table.tex}
"""

import math
import re
from collections.abc import Iterable, Sequence

from ufm.model.problem import Problem
from ufm.runs.loss_summary import Summary

_HEADINGS = (
    "loss",
    "minimiser",
    "global",
    r"$\max$ gap",
    r"$|f-f^\star|$",
    r"$\mathcal{NC}_1$",
    r"$\mathcal{NC}_2$",
    r"$\mathcal{NC}_3$",
)

#: Letters of hyperparameters in labels of losses.
_LETTERS = {
    **{"α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "ε": r"\varepsilon", "κ": r"\kappa"},
    **{"τ": r"\tau", "₁": "_1", "₂": "_2"},
}

#: Largest number of class counts listed in a caption.
_LISTED = 10


def latex_table(problem: Problem, rows: Sequence[Summary]) -> str:
    """Make a `tabular` below a comment on the problem; `problem` is that of any loss."""
    comments = [
        f"{described(problem)}. Needs \\usepackage{{booktabs}}.",
        "global: runs proven to end at a global minimum. Numbers are the largest of all runs.",
    ]
    return tabular("llcrrrrr", _HEADINGS, map(_cells, rows), comments)


def tabular(
    columns: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    comments: Sequence[str] = (),
) -> str:
    """Make a `tabular` of rows with headings, below comments."""
    lines = [
        *(f"% {comment}" for comment in comments),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(headings),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def described(problem: Problem) -> str:
    """Describe sizes and decays of a problem, in ASCII."""
    decays = _decays(problem, "", "tau").items()
    said = [f"{name}={value:g}" for name, value in decays]
    listed = ",".join(map(str, problem.class_counts))
    return ", ".join(_described(problem, listed, said))


def described_in_tex(problem: Problem) -> str:
    """Describe sizes and decays of a problem for a caption."""
    sizes = problem.class_counts
    listed = (
        ",".join(map(str, sizes)) if len(sizes) <= _LISTED else f"{max(sizes)},\\dots,{min(sizes)}"
    )
    decays = _decays(problem, "\\", r"\tau").items()
    said = [f"{name}={short_in_tex(value)}" for name, value in decays]
    return ", ".join(_described(problem, listed, said, "$"))


def _described(problem: Problem, listed: str, decays: list[str], mark: str = "") -> list[str]:
    """The parts of a description, those that are formulas between marks."""
    n = problem.per_class
    formulas = [
        f"K={problem.num_outputs or problem.num_classes}",
        f"d={problem.dim}",
        f"n={n}" if n is not None else f"n_k={listed}",
    ]
    marked, decays = ([f"{mark}{x}{mark}" for x in part] for part in (formulas, decays))
    sets = [f"{name} in {found.label()}" for name, found in problem.constraints.items()]
    bias = [] if problem.has_bias else ["no bias"]
    return [*marked, *_widths(problem), *decays, *sets, *bias]


def _decays(problem: Problem, slash: str, temperature: str) -> dict[str, float]:
    """The decays that there are, those of hidden layers, and the temperature, by symbol."""
    lam = f"{slash}lambda_"
    given = {f"{lam}W": problem.lam_w, f"{lam}H": problem.lam_h, f"{lam}b": problem.lam_b}
    given |= {f"{lam}{i}": decay for i, decay in enumerate(problem.lam_hidden, 1)}
    given[temperature] = problem.temperature
    return {name: float(value) for name, value in given.items() if value is not None}


def _widths(problem: Problem) -> list[str]:
    if not problem.hidden_dims:
        return []
    return [f"hidden widths {' and '.join(map(str, problem.hidden_dims))}"]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cells(row: Summary) -> list[str]:
    numbers = (row.max_gap, row.distance, row.nc1, row.nc2, row.nc3)
    return [
        label_in_tex(row.label),
        row.minimum,
        f"{row.num_global}/{row.num_starts}",
        *map(number_in_tex, numbers),
    ]


def label_in_tex(label: str) -> str:
    r"""Write LS(α=0.1) as LS ($\alpha=0.1$)."""
    name, parenthesis, values = label.rstrip(")").partition("(")
    for letter, command in _LETTERS.items():
        values = values.replace(letter, command)
    return f"{name} (${_powers(values)}$)" if parenthesis else name


def number_in_tex(value: float, decimals: int = 1) -> str:
    r"""Write 3.3e-10 as $3.3\times10^{-10}$, like \num of siunitx."""
    if math.isnan(value):
        return "--"
    return f"${_powers(f'{value:.{decimals}e}')}$" if value else "$0$"


def count_in_tex(count: int) -> str:
    r"""Write 12345 as 12\,345, like \num, and up to four digits unchanged."""
    return str(count) if count < 10_000 else f"{count:,}".replace(",", r"\,")


def short_in_tex(value: float, digits: int = 6) -> str:
    r"""Write 5e-05 as 5\times10^{-5}, and 0.005 unchanged, for use between dollar signs."""
    return _powers(f"{value:.{digits}g}").removeprefix(r"1\times")


def _powers(text: str) -> str:
    """Write every e-05 in a text as a power of ten, and omit e+00."""
    return re.sub(r"e([+-]\d+)", lambda e: rf"\times10^{{{int(e[1])}}}" if int(e[1]) else "", text)
