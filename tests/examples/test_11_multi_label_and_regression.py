"""Targets that are not classes, in quick mode: what it prints is what it claims."""

import re

from example_runs import run_example


def test_it_proves_every_run_and_measures_its_geometry(tmp_path, monkeypatch, capsys):
    figure = tmp_path / "figure.png"
    run_example("11_multi_label_and_regression", monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    assert printed.count("3/3 proven global minima") == 4
    pairs = zip(
        *(re.findall(rf"{name}(\S+)", printed) for name in ("f = ", "theory: ")), strict=True
    )
    assert all(run == theory for run, theory in pairs)
    assert float(re.search(r"labels' means: (\S+)", printed)[1]) < 1e-7
    assert max(map(float, re.findall(r"NRC\d (\S+?),?\s", printed))) < 1e-9
    far, near = map(float, re.findall(r"the teacher's: (\S+)", printed))
    assert near < 1e-3 < far
    assert figure.read_bytes().startswith(b"\x89PNG")
