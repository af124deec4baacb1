"""`ufm measure`: the metrics of a stored layer, against the formulas on the whole arrays."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from commands import complaint
from tex import compile_table, number_of, rows_of

from ufm import CrossEntropy, Params, Problem, nc_metrics
from ufm.cli import main

K, DIM, N = 3, 5, 40
RNG = np.random.default_rng(0)
LABELS = np.concatenate([np.arange(K), RNG.integers(0, K, N - K)])
FRAME = RNG.standard_normal((K, DIM))
ROWS = FRAME[LABELS] + 0.3 * RNG.standard_normal((N, DIM)) + 2.0
W, B = FRAME + 0.1 * RNG.standard_normal((K, DIM)), RNG.standard_normal(K)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats").mkdir()
    for i, part in enumerate(np.split(ROWS, [7, 20])):
        np.save(tmp_path / "feats" / f"{i}.npy", part)
    np.savez(tmp_path / "head.npz", weight=W, bias=B)
    np.save(tmp_path / "y.npy", LABELS)


def measured(capsys, *options: str) -> dict:
    assert main(["measure", "head.npz", "feats", "y.npy", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_numbers_are_those_of_the_whole_arrays(capsys):
    order = np.argsort(LABELS, kind="stable")
    problem = Problem(
        loss=CrossEntropy(), class_counts=tuple(np.bincount(LABELS).tolist()), dim=DIM,
        lam_w=1.0, lam_h=1.0, lam_b=1.0,
    )  # fmt: skip
    params = Params(jnp.asarray(W), jnp.asarray(ROWS[order].T), jnp.asarray(B))
    expected, found = nc_metrics(problem, params), measured(capsys)
    for name in ("nc1", "nc2", "nc3", "nc4", "within_between_ratio"):
        assert found[name] == pytest.approx(float(getattr(expected, name)), rel=1e-12)
    assert found["nc4"] > 0
    assert found["nc0"] == pytest.approx(float(np.sum(W.sum(axis=0) ** 2)), rel=1e-12)
    means = np.stack([ROWS[k == LABELS].mean(axis=0) for k in range(K)])
    unit = means / np.linalg.norm(means, axis=1)[:, None]
    pairs = (unit @ unit.T)[np.triu_indices(K, 1)]
    assert found["uncentred_cosine_mean"] == pytest.approx(pairs.mean(), rel=1e-12)
    assert found["nc5"] is None
    assert found["class_counts"] == list(problem.class_counts)


def test_samples_that_the_loss_ignored_are_left_out(capsys):
    expected = measured(capsys)
    np.save("feats/3.npy", np.full((2, DIM), 1e3))
    np.save("y.npy", np.append(LABELS, [-100, -100]))
    found = measured(capsys)
    assert "2 samples" in " ".join(found.pop("notes"))
    expected.pop("notes")
    assert found == expected


def test_other_data_give_nc5(capsys):
    other = RNG.standard_normal((9, DIM))
    np.save("other.npy", other)
    means = np.stack([ROWS[k == LABELS].mean(axis=0) for k in range(K)])
    mean = other.mean(axis=0)
    expected = np.abs(means @ mean / np.linalg.norm(means, axis=1) / np.linalg.norm(mean)).mean()
    assert measured(capsys, "--outside", "other.npy")["nc5"] == pytest.approx(expected, rel=1e-12)


def test_the_summary_and_the_table_have_the_same_numbers(capsys, tmp_path):
    numbers = measured(capsys, "--out", "out")
    assert json.loads(Path("out/metrics.json").read_text()) == numbers
    table = Path("out/table.tex").read_text()
    shown = {name: number_of(cell) for name, cell in rows_of(table)}
    assert shown["NC1"] == pytest.approx(numbers["nc1"], rel=1e-3)
    assert shown["effective rank"] == pytest.approx(numbers["effective_rank"], rel=1e-3)
    assert "NC5" not in shown  # undefined without other data
    assert main(["measure", "head.npz", "feats", "y.npy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("K=3, N=40, ")
    assert "Read as:" in lines
    (line,) = [line for line in lines if line.startswith("NC1 ")]
    assert float(line.split()[1]) == pytest.approx(numbers["nc1"], rel=1e-3)
    compile_table(table, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda: np.save("y.npy", LABELS[:-1]), [], "labels"),
        (lambda: np.save("feats/1.npy", ROWS[7:20, :4]), [], "shards"),
        (lambda: np.save("feats/1.npy", np.full((13, DIM), np.nan)), [], "features"),
        (
            lambda: np.save("other.npy", ROWS[:, :3]),
            ["--outside", "other.npy"],
            "--outside must be M x 5",
        ),
        (lambda: None, ["--outside", "nowhere.npy"], "nowhere.npy"),
        (lambda: None, ["--weight", "fc.weight"], "correct --weight"),
    ],
)
def test_bad_input_is_one_line(spoil, options, message, capsys):
    spoil()
    said = complaint(capsys, "measure", "head.npz", "feats", "y.npy", "--out", "out", *options)
    assert message in said
    assert not Path("out").exists()
