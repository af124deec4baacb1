"""The phase diagram of the focal loss, against 50-digit arithmetic and LAPACK."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import dense_hessian
from mpmath import mp, mpf
from points import make, origin

from ufm import Focal, collapse_threshold, focal_phases, global_minimum
from ufm.minimum.global_minimum import frame

mp.dps = 50


def exact(gamma, classes) -> tuple[float, float, float]:
    """origin, tie, frame from the definition of the loss at equal margins."""
    K, g = mpf(classes), mpf(gamma)

    def phi(s):
        p = 1 / (1 + (K - 1) * mp.exp(-s))
        return (1 - p) ** g * -mp.log(p)

    def slope(s):
        return mp.diff(phi, s)

    start = slope(mpf(0))
    bend = mp.findroot(lambda s: mp.diff(phi, s, 2), mp.log(K - 1) - mpf("2.8"))
    if bend <= 0:
        return (float(-start / (K - 1)),) * 3
    tie = mp.findroot(lambda s: phi(s) - s * slope(s) - phi(0), bend + 1)
    return tuple(float(-x / (K - 1)) for x in (start, slope(tie), slope(bend)))


@pytest.mark.parametrize(("gamma", "classes"), [(3.0, 100), (1.0, 30), (2.0, 18), (0.5, 1000)])
def test_the_curves_to_fifty_digits(gamma, classes):
    found = focal_phases(gamma, classes)
    curves = [float(x) for x in (found.origin, found.tie, found.frame)]
    np.testing.assert_allclose(curves, exact(gamma, classes), rtol=1e-13)
    assert bool(found.jumps) == (curves[0] < curves[1])


def test_the_numbers_of_the_theory():
    found = focal_phases(3.0, 100)
    assert bool(found.jumps)
    for value, expected in ((found.origin, 0.01106), (found.tie, 0.01175), (found.frame, 0.01214)):
        assert float(value) == pytest.approx(expected, abs=5e-6)


def test_the_transition_is_continuous_where_one_over_k_exceeds_p_star():
    # p*(γ) to four digits: 1/17 > 0.0578 > 0.0575 > 1/18.
    gammas, p_star = jnp.array([1.0, 2.0, 3.0, 5.0]), [0.0432, 0.0578, 0.0575, 0.0502]
    for classes in (2, 10, 17, 18, 24, 100):
        found = focal_phases(gammas, classes)
        expected = [1 / classes < p for p in p_star]
        assert np.asarray(found.jumps).tolist() == expected
        same = ~np.asarray(found.jumps)
        # Three copies of one formula in one program, which a compiler may round apart.
        for curve in (found.tie, found.frame):
            np.testing.assert_allclose(curve[same], found.origin[same], rtol=1e-15)
        ordered = np.asarray([found.origin, found.tie, found.frame])[:, ~same]
        assert np.all(np.diff(ordered, axis=0) > 0)


def test_the_tie_is_the_collapse_threshold():
    for gamma in (0.3, 3.0):
        problem = make(Focal(gamma), (4,) * 24, None, dim=23)
        threshold = float(collapse_threshold(problem).mu) * 4**0.5
        assert float(focal_phases(gamma, 24).tie) == pytest.approx(threshold, rel=1e-13)


def test_minima_on_either_side_of_every_curve():
    problem = make(Focal(3.0), (1,) * 20, None, dim=19, ratio=1.0)
    found = focal_phases(3.0, 20)

    def at(x: float):
        return dataclasses.replace(problem, lam_w=x, lam_h=x)

    x = float(found.origin)
    # λ − ‖G‖, which does not depend on λ: just above the curve it is as small as expected.
    here = at(x * (1 + 1e-6))
    smallest = np.linalg.eigvalsh(dense_hessian(here, origin(here)))[0]
    assert smallest == pytest.approx(1e-6 * x, rel=1e-3)
    # At its end the ETF has zeros that rotations do not explain: χ₁ = 0.
    rotations = 19 * 18 // 2
    beyond = []
    for part in (1e-6, 1e-10):
        here = at(float(found.frame) * (1 - part))
        spectrum = np.linalg.eigvalsh(dense_hessian(here, frame(here)))
        assert np.max(np.abs(spectrum[:rotations])) < 1e-12
        beyond.append(spectrum[rotations])
    assert beyond[0] > beyond[1] > 0
    assert beyond[1] == pytest.approx(1e-2 * beyond[0], rel=0.05)  # as the root of the distance
    with pytest.raises(ValueError, match="no symmetric critical point but the origin"):
        frame(at(float(found.frame) * (1 + 1e-9)))
    for factor, kind in ((1 - 1e-6, "simplex ETF"), (1 + 1e-6, "origin")):
        assert global_minimum(at(float(found.tie) * factor)).kind == kind


@pytest.mark.parametrize(
    ("gamma", "classes", "message"),
    [(0.0, 10, "gamma must be positive"), (1.0, 1, "num_classes must be at least 2")],
)
def test_what_has_no_phases_is_refused(gamma, classes, message):
    with pytest.raises(ValueError, match=message):
        focal_phases(gamma, classes)
