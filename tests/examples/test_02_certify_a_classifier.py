"""A trained classifier is certified, in quick mode: what it prints is what it claims."""

import re

import numpy as np
from example_runs import run_example


def test_it_says_what_holds_of_a_trained_last_layer(tmp_path, monkeypatch, capsys):
    run_example("02_certify_a_classifier", monkeypatch, "--out", str(tmp_path))
    printed = " ".join(capsys.readouterr().out.split())
    assert "accuracy 100.0%" in printed
    assert "NOT_CRITICAL" in printed
    assert "is inferred as lam_w |W|^2 / |H|^2" in printed
    assert "0 failed, 0 not checkable" in printed
    # W and b are stationary, the features are not.
    classifier, features = re.search(
        r"f\| = (\S+) against \|grad_H f\| = (\S+)\. ", printed
    ).groups()
    assert float(classifier) < 0.1 * float(features)
    # What was saved is what was said: a plain mean of plain rows.
    with np.load(tmp_path / "last_layer.npz", allow_pickle=False) as saved:
        mean = np.linalg.norm(saved["H"].mean(axis=0)) * len(saved["H"]) ** 0.5
    assert f"a distance of {mean:.1f}, of " in printed
