"""Bring your own loss, in quick mode: what it prints is what it claims."""

import re

import numpy as np
from example_runs import run_example


def test_it_says_which_theorem_applies_and_what_happens_otherwise(tmp_path, monkeypatch, capsys):
    figure = tmp_path / "figure.png"
    run_example("08_your_own_loss", monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    # A function is never proven by samples; the same loss of the library is, by its formula.
    assert printed.count("equivariant undecided, shift invariant undecided") == 1
    assert "equivariant yes, shift invariant yes, contrastive yes, minimisation yes" in printed
    # Poly-1 with ε = 1/2: K√nμ* = 1 + ε/K.
    assert printed.count("until K√nμ = 1.1000") == 2
    alive = [int(x) for x in re.findall(r"K√nμ = \S+: (\d+) alive", printed)]
    assert alive == [4, 3, 2]
    # The infimum of normalised logits, approached with a shrinking point.
    infimum = np.log1p(3 * np.exp(-np.sqrt(4 / 3) / 0.5))
    runs = re.findall(r"f = (\S+), size (\S+),", printed)
    values, sizes = (np.array([float(run[i]) for run in runs]) for i in (0, 1))
    assert np.all(values > infimum - 1e-6)
    assert abs(values[-1] - infimum) < 1e-5
    assert np.all(np.diff(sizes) < 0)
    # Pairs of classes: min_s φ(s) + 2μs over margins of pairs, below collapse.
    s = np.linspace(0, 20, 200_001)
    decay = 0.3 / 4
    pair = np.min(np.log1p(np.exp(-s)) + 2 * decay * s)
    best = float(re.search(r"found rank 1, no ETF (\S+) ", printed).group(1))
    np.testing.assert_allclose(best, pair, atol=1e-6)
    assert "BELOW the prediction" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
