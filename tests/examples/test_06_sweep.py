"""The sweep, in quick mode: what it prints is what it claims."""

import re

from example_runs import run_example

from ufm.report.phase.diagram import QUANTITIES
from ufm.sweep.problems.columns import COLUMNS


def test_it_proves_every_cell_global(tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    run_example("06_sweep", monkeypatch, "--out", str(out))
    printed = capsys.readouterr().out
    assert "cells: 32, compilations: 1" in printed
    assert "32 of 32 runs ended at a proven global minimum" in printed
    assert "0 runs fell short" in printed
    # Of the decays 1e-5, 5e-4, 0.02 and 1, three pairs are beyond 1/(K√n) = 0.11.
    beyond, largest = re.search(r"(\d+) runs beyond .* is (\S+)\n", printed).groups()
    assert int(beyond) == 2 * 3
    assert float(largest) < 1e-6
    page = (out / "report.html").read_text(encoding="utf-8")
    drawn = len(set(QUANTITIES) & set(COLUMNS))
    assert page.count("<svg") == drawn + 3
