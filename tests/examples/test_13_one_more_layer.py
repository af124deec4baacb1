"""The example of one more layer: what it proves, and where structures tie."""

import re

from example_runs import run_example


def test_runs_end_below_the_simplex_and_ties_are_those_of_the_scalar_formulas(
    monkeypatch, tmp_path, capsys
):
    figure = tmp_path / "phases.png"
    run_example("13_one_more_layer", monkeypatch, "--figure", str(figure))
    out = capsys.readouterr().out
    best, worst = map(float, re.search(r"f from ([\d.]+) to ([\d.]+)", out).groups())
    etf = float(re.search(r"simplex ETF: f = ([\d.]+), LOCAL_MINIMUM", out)[1])
    assert best < etf - 1e-3
    assert worst <= etf + 1e-9
    assert "best run: rank 2; known: orthoplex" in out
    # Minima of one-scalar formulas of the three structures, to ten digits by another program.
    assert re.findall(r"at decay ([\d.]+)", out) == ["0.1734838832", "0.1941863740"]
    proven = re.findall(r"decay [\d.]+: (.*?), f\* = ([\d.]+) \(proven", out)
    assert [kind.partition(" (")[0] for kind, _ in proven] == [
        "simplex ETF", "1 pair and 1 dead class", "origin"
    ]  # fmt: skip
    assert [float(value) for _, value in proven][1:] == [1.066522558, 1.098612289]
    assert figure.read_bytes().startswith(b"\x89PNG")
