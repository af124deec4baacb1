"""Compile a table as a paper would, where TeX is at hand."""

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
