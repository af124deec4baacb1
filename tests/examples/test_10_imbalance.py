"""Imbalance, in quick mode: what it prints is what it claims."""

import re

from example_runs import run_example


def test_it_goes_from_merged_classes_to_the_limit(tmp_path, monkeypatch, capsys):
    figure = tmp_path / "figure.png"
    run_example("10_imbalance", monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    # √2/44, and √20/44.
    assert "classes of 2 samples merge at 0.0321412 (√2/44, exact" in printed
    assert "classes of 20 samples merge at 0.101639 (√20/44, exact" in printed
    assert "the 2 classes of 2 samples have not merged: μ = 0.001 < 0.0321412" in printed
    # Every correction opens the angle between small classes, and none reaches the simplex's −1/3.
    angles = dict(re.findall(r"(.+): norms .* small ones (\S+) \(proven", printed))
    assert len(angles) == 5
    assert all(-1 / 3 < float(x) <= float(angles["plain"]) for x in angles.values())
    assert printed.count("(proven: True)") == 5
    assert "9 of 9 points are proven global minima" in printed
    steps, warm = map(int, re.search(r"steps: (\d+), from plain .* (\d+)\n", printed).groups())
    assert 0 < 2 * steps <= warm
    distances = [float(x) for x in re.findall(r"from the limit (\S+)\n", printed)]
    assert sorted(distances, reverse=True) == distances
    assert 0.01 < distances[-1] < 0.1 < distances[0]
    # The limit depends on the ratio alone: that of 1000 and 100 samples.
    assert "limit: cosine +0.0794, norms large/small 1.4125" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
