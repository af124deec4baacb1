"""`ufm certify` on layers that are read in blocks."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from dossiers import minimiser, verify
from points import gaussian, make

from ufm import LabelSmoothing, as_classifier, examine
from ufm.cli import main
from ufm.last_layer.streaming import layer

PROBLEM = make(LabelSmoothing(0.1), lam_b=1e-2)


@pytest.fixture(autouse=True)
def _large_in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layer, "LARGEST_IN_MEMORY", 0)


def save(params) -> list[str]:
    """Features in two shards in single precision, the rest beside them."""
    order = [5, 1, 3, 0, 2, 4]
    rows = np.asarray(params.H, np.float32).T[order]
    np.savez("head.npz", W=params.W, b=params.b, lam_w=2e-2, lam_h=5e-3, lam_b=1e-2, loss="ls:0.1")
    np.save("features_0.npy", rows[:4])
    np.save("features_1.npy", rows[4:])
    np.save("labels.npy", PROBLEM.labels[order])
    return ["head.npz", "features_0.npy", "features_1.npy", "labels.npy"]


def test_the_summary_of_a_large_layer(capsys):
    params = gaussian(PROBLEM, 1, 1.0)
    assert main(["certify", *save(params)]) == 0
    printed = capsys.readouterr().out
    exact = as_classifier(
        params.W, np.asarray(params.H, np.float32), PROBLEM.labels, b=params.b, lam_w=2e-2,
        lam_h=5e-3, lam_b=1e-2, loss="ls:0.1", features="columns", in_memory=True,
    )  # fmt: skip
    found = examine(exact)
    [shown] = re.findall(r"^f +([0-9.e+-]+)", printed.split("centred")[0], flags=re.MULTILINE)
    assert float(shown) == pytest.approx(float(found.certificate.value), rel=1e-6)
    assert "verdict  NOT_CRITICAL" in printed
    assert "read in blocks (products of float32 and sums of float64)" in printed
    assert "The same layer with centred features" in printed
    [(code, said)] = verify(Path("head.certificate"))
    assert (code, "0 failed, 0 not checkable" in said) == (0, True), said
    assert "value recomputed" in said


def test_a_large_minimum_is_proven(capsys):
    assert main(["certify", *save(minimiser(PROBLEM))]) == 0
    assert re.search(r"^verdict +GLOBAL_MINIMUM ", capsys.readouterr().out, flags=re.MULTILINE)


def test_the_folder_of_samples_of_unequal_weights_is_checked(capsys):
    files = save(gaussian(PROBLEM, 1, 1.0))
    np.save("sample_weights.npy", np.arange(1.0, 7.0))
    assert main(["certify", *files, "sample_weights.npy"]) == 0
    [(code, said)] = verify(Path("head.certificate"))
    assert (code, "0 failed, 0 not checkable" in said) == (0, True), said
    assert "sample weights" in said
    assert "value recomputed" in said


def test_json_of_a_large_layer(capsys):
    assert main(["certify", *save(minimiser(PROBLEM)), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["claims"]["verdict"] == "GLOBAL_MINIMUM"
    files = [shard["file"] for shard in said["features"]["shards"]]
    assert files == ["../features_0.npy", "../features_1.npy"]
