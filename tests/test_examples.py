"""The examples run, and say what they claim."""

import re
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[0-9]*.py"))


def run(path: Path, monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--quick", *options])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    # Users run them with JAX's defaults, and optax needs those.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(path), run_name="__main__")


def every_loss_collapses(path, folder, monkeypatch, capsys):
    figure = folder / "figure.png"
    run(path, monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    assert printed.count("3/3 proven global minima") == 4
    assert "STRICT_SADDLE" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")


def certify_a_classifier(path, folder, monkeypatch, capsys):
    run(path, monkeypatch, "--out", str(folder))
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
    with np.load(folder / "last_layer.npz", allow_pickle=False) as saved:
        mean = np.linalg.norm(saved["H"].mean(axis=0)) * len(saved["H"]) ** 0.5
    assert f"a distance of {mean:.1f}, of " in printed


CLAIMS = {
    "01_every_loss_collapses": every_loss_collapses,
    "02_certify_a_classifier": certify_a_classifier,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_in_quick_mode_and_says_what_it_claims(path, tmp_path, monkeypatch, capsys):
    CLAIMS[path.stem](path, tmp_path, monkeypatch, capsys)
