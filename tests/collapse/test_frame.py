"""The symmetric critical point with ρ > 0, also where it is not the global minimum."""

import dataclasses

import numpy as np
import pytest
from model_oracle import dense_hessian
from points import make
from scipy.optimize import brentq

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    collapse_threshold,
    focal_phases,
    spectrum,
    symmetric_minimum,
)
from ufm.collapse.symmetric_solution import symmetric_frame
from ufm.minimum.global_minimum import frame
from ufm.model.objective import value_and_gradient
from ufm.model.problem import norm


def slope(gamma: float, classes: int, s: float) -> float:
    """φ'(s) of the focal loss, from p_k = 1/(1 + (K−1)e^{−s})."""
    odds = (classes - 1) * np.exp(-s)
    u, ell = odds / (1 + odds), np.log1p(odds)
    return -(u ** (gamma + 1)) - gamma * u**gamma * (1 - u) * ell


def test_rho_is_the_larger_root_of_the_slope():
    # Between the spinodals φ' = −c twice: once on the concave branch, a barrier, once beyond it.
    curves = focal_phases(3.0, 24)
    bend = brentq(
        lambda s: slope(3.0, 24, s + 1e-5) - slope(3.0, 24, s - 1e-5), 0.0, 5.0, xtol=1e-6
    )
    for part in (0.5, 0.99, 1.001):
        rate = part * float(curves.tie)
        problem = make(Focal(3.0), (4,) * 24, None, mu=rate / 2, dim=23)
        found = symmetric_frame(problem)
        expected = brentq(lambda s, c=23 * rate: slope(3.0, 24, s) + c, bend, 50.0, xtol=1e-14)
        assert float(found.rho) == pytest.approx(expected, rel=1e-9)
        best = symmetric_minimum(problem)
        if part < 1:
            assert float(found.value) == float(best.value)
        else:
            assert float(best.rho) == 0.0
            assert float(found.value) > float(best.value)
    gone = make(Focal(3.0), (4,) * 24, None, mu=float(curves.frame) / 2 * (1 + 1e-9), dim=23)
    assert np.isnan(float(symmetric_frame(gone).rho))


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_the_frame_beyond_the_tie(lam_b):
    # FL(γ=3), K=24: the ETF stays a minimum beyond the decay at which it ceases to be global.
    problem = make(Focal(3.0), (1,) * 24, lam_b, dim=23, ratio=1.0)
    mu = 1.001 * float(collapse_threshold(problem).mu)
    problem = dataclasses.replace(problem, lam_w=mu, lam_h=mu)
    assert float(symmetric_minimum(problem).rho) == 0.0
    point = frame(problem)
    _, gradient = value_and_gradient(problem, point)
    assert float(norm(gradient)) < 1e-14
    expected = np.linalg.eigvalsh(dense_hessian(problem, point))
    found = spectrum(problem, at="frame")
    for result in (found, spectrum(problem, at="frame", method="collapsed")):
        np.testing.assert_allclose(result.expand(), expected, rtol=0, atol=1e-14)
        assert result.zero == result.gauge_dimension == 23 * 22 // 2
        assert result.definite_modulo_gauge
    assert found.note == spectrum(problem, point, "closed_form").note == "at the frame"
    gone = dataclasses.replace(problem, lam_w=1.1 * mu)
    for method in ("auto", "collapsed", "dense"):
        with pytest.raises(ValueError, match="no symmetric critical point but the origin"):
            spectrum(gone, at="frame", method=method)


def test_below_the_threshold_the_frame_is_the_minimum():
    for loss in (CrossEntropy(), MSE(5.0, 3.0)):
        problem = make(loss, (2,) * 4, 1e-2, dim=5)
        found, expected = spectrum(problem, at="frame"), spectrum(problem)
        np.testing.assert_array_equal(found.eigenvalues, expected.eigenvalues)
        np.testing.assert_array_equal(found.multiplicities, expected.multiplicities)
    with pytest.raises(ValueError, match="more than dim=2: set dim to 3 or more"):
        frame(make(CrossEntropy(), (2,) * 4, None, dim=2))
