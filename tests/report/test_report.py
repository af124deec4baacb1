"""Plotted data, not pixels."""

import jax
import matplotlib as mpl
import numpy as np
import pytest

import ufm.report
from ufm import CrossEntropy, Problem, verify
from ufm.report import plot_cosines, plot_gap, plot_gradient_norm, style

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen


@pytest.fixture(scope="module")
def verification():
    problem = Problem(CrossEntropy(), (5,) * 4, 6, 5e-3, 5e-3, 1e-2)
    return verify(problem, jax.random.key(0), 2)


@pytest.fixture
def axes():
    with style():
        figure, axes = plt.subplots()
        yield axes
        plt.close(figure)


def test_every_name_of_the_package_can_be_had():
    for name in dir(ufm.report):
        assert getattr(ufm.report, name) is not None
    with pytest.raises(AttributeError, match=r"ufm\.report.*plot_nothing"):
        _ = ufm.report.plot_nothing  # on purpose


def test_gap_is_the_history_above_the_minimum(verification, axes):
    plot_gap([verification], axes)
    assert len(axes.lines) == 3  # two runs and their median
    history = verification.solutions.history
    used = np.asarray(history.step[0]) >= 0
    gaps = np.asarray(history.value[0])[used] - verification.minimum.value
    products = np.asarray(history.products[0])[used]
    x, y = axes.lines[0].get_data()
    # The last is within rounding of f*, on either side.
    floor = 4 * 2.0**-52 * verification.minimum.value
    assert np.min(gaps) > -floor
    np.testing.assert_array_equal(x, products)
    np.testing.assert_array_equal(y, np.maximum(gaps, floor))
    assert axes.get_yscale() == "log"


def test_gradient_norm_ends_at_the_solution(verification, axes):
    plot_gradient_norm([verification], axes)
    ends = [line.get_ydata()[-1] for line in axes.lines[:2]]
    np.testing.assert_array_equal(ends, np.asarray(verification.solutions.grad_norm))


def test_cosines_of_the_end_are_those_of_a_simplex(verification, axes):
    point = jax.tree.map(lambda x: x[0], verification.solutions.params)
    plot_cosines(point, axes)
    cosines = np.asarray(axes.images[0].get_array())
    expected = np.where(np.eye(4) > 0, 1.0, -1 / 3)
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
