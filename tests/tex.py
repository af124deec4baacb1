"""Read a table, and compile it as a paper would, where TeX is at hand."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_PAPER = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
\input{table.tex}
\end{document}
"""


def rows_of(table: str) -> list[list[str]]:
    """The cells below the headings."""
    body = table.split("\\midrule\n")[1].split("\\bottomrule")[0]
    return [
        [cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in body.splitlines()
    ]


def number_of(cell: str) -> float:
    """The number that a cell shows."""
    return float(re.sub(r"\\times10\^\{(-?\d+)\}", r"e\1", cell.strip("$")).replace("\\,", ""))


def compile_table(table: str, folder: Path) -> None:
    """Fail where LaTeX stops at the table; skip where there is no LaTeX."""
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no pdflatex")
    (folder / "table.tex").write_text(table, encoding="utf-8")
    (folder / "paper.tex").write_text(_PAPER, encoding="utf-8")
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
