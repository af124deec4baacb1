"""The example of five constraint sets: every one proven, with the frame of each."""

import re

import pytest
from example_runs import run_example


def test_every_set_has_a_proven_minimum_with_its_frame(monkeypatch, tmp_path, capsys):
    figure = tmp_path / "sets.png"
    run_example("12_five_constraint_sets", monkeypatch, "--figure", str(figure))
    out = capsys.readouterr().out
    lines = re.findall(r"f = ([\d.]+), (\w+), gap [\d.e-]+, cosines (\S+) to (\S+)", out)
    assert [line[1] for line in lines] == ["GLOBAL_MINIMUM"] * 10
    balanced = [tuple(map(float, (low, high))) for _, _, low, high in lines[:5]]
    simplex = pytest.approx((-0.5, -0.5), abs=1e-3)
    assert balanced == [simplex, pytest.approx((0, 0), abs=1e-3), simplex, simplex, simplex]
    assert figure.read_bytes().startswith(b"\x89PNG")
