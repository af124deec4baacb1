"""A run seen on the way: bit for bit the run that the solver makes."""

import jax
import numpy as np
import pytest
from points import BALANCED, make

from ufm import CrossEntropy, init_params, solve
from ufm._support.quick_jit import counted_anew
from ufm.runs.trajectory import trajectory


def problem_and_start():
    problem = make(CrossEntropy(), BALANCED, 1e-2)
    return problem, init_params(problem, jax.random.key(3))


def etf_distance(gram: np.ndarray) -> float:
    """NC2 of WWᵀ and NC3 of WH̃, from the definition."""
    classes = len(gram)
    frame = (np.eye(classes) - 1 / classes) / np.sqrt(classes - 1)
    return float(np.linalg.norm(gram / np.linalg.norm(gram) - frame))


def test_the_path_is_the_run():
    problem, start = problem_and_start()
    with counted_anew():  # runs before may have compiled what a new process has not
        end, path = solve(problem, start), trajectory(problem, start)
    np.testing.assert_array_equal(path.step, np.arange(int(end.num_steps) + 1))
    used = np.asarray(end.history.step) >= 0
    np.testing.assert_array_equal(path.value, np.asarray(end.history.value)[used])
    np.testing.assert_array_equal(path.products, np.asarray(end.history.products)[used])
    for moment, point in ((0, start), (-1, end.params)):
        jax.tree.map(np.testing.assert_array_equal, path.point(moment), point)


def test_the_metrics_are_those_of_the_points():
    path = trajectory(*problem_and_start())
    for moment in (0, 3, -1):
        point = path.point(moment)
        W, H = np.asarray(point.W), np.asarray(point.H)
        means = H.reshape(4, 3, 2).mean(axis=2)
        centred = means - H.mean(axis=1, keepdims=True)
        assert path.metrics.nc2[moment] == pytest.approx(etf_distance(W @ W.T), rel=1e-6)
        assert path.metrics.nc3[moment] == pytest.approx(etf_distance(W @ centred), rel=1e-6)
    assert path.metrics.nc2[0] > 0.1 > 1e-6 > path.metrics.nc2[-1]


def test_long_runs_are_thinned_and_keep_both_ends():
    problem, start = problem_and_start()
    options = {"method": "gradient_descent", "max_steps": 300}
    end = solve(problem, start, **options)
    path = trajectory(problem, start, num_points=5, **options)
    steps = np.asarray(path.step)
    assert len(steps) == 5
    assert (steps[0], steps[-1]) == (0, int(end.num_steps))
    history = dict(zip(np.asarray(end.history.step), np.asarray(end.history.value), strict=True))
    for step, value in zip(steps, np.asarray(path.value), strict=True):
        assert value == history[step]


def test_one_point_is_no_path():
    with pytest.raises(ValueError, match="num_points must be at least 2"):
        trajectory(*problem_and_start(), num_points=1)
