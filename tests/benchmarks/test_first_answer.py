"""The race for the first answer: its judge, and contenders that compile nothing."""

import json
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import objective_and_gradient

import ufm

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

PROBLEM = ufm.Problem.balanced(
    loss=ufm.CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=5e-3, lam_h=4e-3, lam_b=1e-2
)


@pytest.fixture
def cold(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cold

    yield cold
    sys.modules.pop("cold")


def params(point) -> ufm.Params:
    return ufm.Params(*map(jnp.asarray, point))


def task_of(cold, tol: float, count: int = 2):
    rng = np.random.default_rng(0)
    shapes = (4, 6), (6, 20), (4,)
    starts = [tuple(0.3 * rng.standard_normal(s) for s in shapes) for _ in range(count)]
    end = time.perf_counter() + 60
    return cold.Task(PROBLEM.labels.astype(np.int64), (5e-3, 4e-3, 1e-2), tol, starts, end)


def test_the_judge_is_the_gradient(cold):
    task = task_of(cold, 1e-8)
    for start in task.starts:
        value, gradient = cold.value_and_gradient(task, *start)
        plain_value, plain_gradient = objective_and_gradient(PROBLEM, params(start))
        assert value == pytest.approx(plain_value, rel=1e-14)
        ours = np.concatenate([x.ravel() for x in gradient])
        np.testing.assert_allclose(ours, plain_gradient, atol=1e-15)


def test_a_contender_stops_at_the_norm_of_the_gradient(cold, tmp_path, capsys):
    task = task_of(cold, 1e-6)
    names = dict(zip("WHb", map(np.stack, zip(*task.starts, strict=True)), strict=True))
    given, out = tmp_path / "given.npz", tmp_path / "out.npz"
    np.savez(given, **names, labels=task.labels, decays=np.array(task.decays), tol=task.tol)
    cold.main("SciPy L-BFGS-B, NumPy", str(given), str(out), "60")
    taken = json.loads(capsys.readouterr().out)
    assert taken.keys() == {"import", "answer"}
    with np.load(out) as file:
        for point in zip(file["W"], file["H"], file["b"], strict=True):
            gradient = objective_and_gradient(PROBLEM, params(point))[1]
            assert 1e-9 < np.linalg.norm(gradient) <= 1e-6


def test_no_start_is_begun_when_the_time_is_over(cold):
    task = task_of(cold, 1e-6)._replace(end=time.perf_counter())
    assert list(task.in_time()) == []
