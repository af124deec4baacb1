"""Minima of a few variables, against closed forms."""

import numpy as np

from ufm._support.few_variables import descend


def test_a_curved_valley_is_followed_to_the_last_digit():
    def valley(x):
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])

    np.testing.assert_allclose(descend(valley, np.array([-1.2, 1.0])), [1.0, 1.0], rtol=1e-12)


def test_a_maximum_along_one_axis_is_left_downhill():
    """x⁴/4 − x²/2 + y²: minima at (±1, 0), and negative curvature at the start."""

    def double(x):
        value = x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2
        return float(value), np.array([x[0] ** 3 - x[0], 2 * x[1]])

    for sign in (1, -1):
        end = descend(double, np.array([0.01 * sign, 0.5]))
        np.testing.assert_allclose(end, [sign, 0.0], atol=1e-12)
