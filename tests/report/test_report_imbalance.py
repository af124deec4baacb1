"""Angles and norms of large and small classes: against NumPy, theory, and runs that reach it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_print
from matplotlib.figure import Figure

from sweeps import loaded
from ufm import CrossEntropy, Params, Problem
from ufm.minimum.size_geometry import measured
from ufm.report import style
from ufm.report.sweep.imbalance import plot_ratio, ratio_page, ratios
from ufm.sweep import open_store, run_sweep

TEXT = """
loss = ["ce"]
[problem]
class_counts = [[4, 4, 4, 4], [4, 4, 2, 2]]
dim = 6
lam_w = 0.02
lam_h = "lam_w"
lam_b = "none"
[keep]
arrays = true
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imbalance")
    run_sweep(loaded(folder, TEXT), folder / "out")
    return open_store(folder / "out")


@pytest.fixture(scope="module")
def found(store):
    (found,) = ratios(store)
    return found


def point(W, H, counts=(2, 2, 1, 1)):
    problem = Problem(
        loss=CrossEntropy(), class_counts=counts, dim=len(H), lam_w=0.1, lam_h=0.1, lam_b=None
    )
    return measured(problem, Params(jnp.asarray(W), jnp.asarray(H), None))


def test_numbers_are_those_of_groups_and_pairs():
    W = np.array([[3.0, 0, 0], [0, 5, 0], [0, 0, 2], [0, 0, 4]])
    H = np.array([[1.0, 3, 0, 0, 2, 2], [0, 0, 1, 1, 2, 0], [0, 0, 0, 0, 0, 0]])
    one = point(W, H)
    np.testing.assert_allclose(one.norm_w, [4, 3])
    np.testing.assert_allclose(one.cosine_w, [0, 0, 1])
    # Means (2, 0), (0, 1), (2, 2), (2, 0).
    root = np.sqrt(0.5)
    np.testing.assert_allclose(one.norm_h, [1.5, 1 + np.sqrt(2)])
    np.testing.assert_allclose(one.cosine_h, [0, (root + 1 + root + 0) / 4, root])


def test_what_vanishes_has_a_length_and_no_direction():
    W = np.array([[1.0, 0], [0, 1], [1e-9, 0], [0, 1e-9]])
    one = point(W, np.ones((2, 6)))
    np.testing.assert_allclose(one.norm_w, [1, 1e-9])
    np.testing.assert_array_equal(np.isnan(one.cosine_w), [False, True, True])
    alone = point(W[:3], np.ones((2, 5)), (2, 2, 1))
    assert np.isnan(alone.cosine_w[2])  # one small class has no pair


def test_runs_end_at_the_certified_minimum(found):
    assert [ratio for ratio, _ in found.theory] == [1.0, 2.0]
    equal, skewed = (here for _, here in found.theory)
    for name in ("cosine_w", "cosine_h"):
        np.testing.assert_allclose(getattr(equal, name), -1 / 3, atol=1e-9)  # a simplex ETF
    assert skewed.norm_w[0] > skewed.norm_w[1]
    for (ratio, run), (other, theory) in zip(found.runs, found.theory, strict=True):
        assert ratio == other
        for mine, known in zip(run, theory, strict=True):
            np.testing.assert_allclose(mine, known, atol=1e-6)


def test_theory_is_a_line_and_runs_are_marks(found):
    axes = plot_ratio(found, "cosine_w", Figure().subplots())
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    for i, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_array_equal(line.get_ydata(), [x.cosine_w[i] for _, x in found.theory])
        np.testing.assert_array_equal(mark.get_ydata(), [x.cosine_w[i] for _, x in found.runs])
    with style():
        figure, tables = ratio_page(found)
        figure.draw_without_rendering()
        check_print(figure)
    assert [table["what"] for table in tables] == ["theory", "run"]
    run = found.runs[1][1]
    assert tables[1]["norm_h_small"][1] == run.norm_h[1]
    only_runs = dataclasses.replace(found, theory=())
    assert [table["what"] for table in ratio_page(only_runs)[1]] == ["run"]
