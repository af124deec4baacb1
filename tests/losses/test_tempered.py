"""The bi-tempered profile at 50 digits, its one inflection, and the scalar bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

import ufm
from ufm._support.quick_jit import quick_jit

SPECS = ("bitempered:0.8,1.2", "bitempered:1,1.5", "bitempered:0,4", "bitempered:0.3,2")
CLASSES = (2, 1000)


def exact(spec: str, s, classes: int):
    """φ(s) and p_k from the definition: λ from Σ_j p_j = 1 by bisection."""
    a, b = (mp.mpf(float(x)) for x in spec.partition(":")[2].split(","))
    others = classes - 1

    def tail(gap):
        return (1 + (b - 1) * gap) ** (-1 / (b - 1))

    low, high = max(s, mp.mpf(0)), max(s, mp.mpf(0)) + (mp.mpf(classes) ** (b - 1)) / (b - 1)
    for _ in range(200):
        level = (low + high) / 2
        too_low = tail(level - s) + others * tail(level) > 1
        low, high = (level, high) if too_low else (low, level)
    p, q = tail(level - s), tail(level)
    log_p = mp.log(p) if a == 1 else (p ** (1 - a) - 1) / (1 - a)
    return -log_p - (1 - p ** (2 - a) - others * q ** (2 - a)) / (2 - a), p


@pytest.mark.repeats
@pytest.mark.parametrize("spec", SPECS)
def test_profile_and_slope_far_out_and_near_zero(spec):
    loss = ufm.parse_loss(spec)
    s = np.array([-1e4, -30.0, -0.7, -1e-9, 0.0, 1e-9, 0.7, 30.0, 1e4])
    for classes in CLASSES:
        with mp.workdps(50):
            margins = [mp.mpf(float(x)) for x in s]
            values, p = zip(*(exact(spec, x, classes) for x in margins), strict=True)
            step = mp.mpf(10) ** -15
            slopes = [
                (exact(spec, x + step, classes)[0] - exact(spec, x - step, classes)[0]) / (2 * step)
                for x in margins
            ]
        np.testing.assert_allclose(
            loss.profile(s, classes), np.array(values, float), rtol=1e-14, atol=1e-15
        )
        found = loss.probability_at(s, classes)
        np.testing.assert_allclose(found, np.array(p, float), rtol=1e-13)
        inside = (found > 0) & (found < 0.999)  # elsewhere p has lost the margin
        again = loss.margin_at(found[inside], classes)
        # An error ε of p moves the margin by up to ε K^(t₂−1) near s = 0.
        atol = 1e-14 * classes ** (float(loss.t2) - 1.0)
        np.testing.assert_allclose(again, s[inside], rtol=1e-9, atol=atol)
        # Differences of 50 digits over 1e-15 keep fifteen of them.
        np.testing.assert_allclose(
            loss.profile_slope(s, classes), np.array(slopes, float), rtol=3e-13, atol=1e-18
        )


def test_the_gradient_keeps_its_digits_where_the_label_takes_all():
    """At equal margins it is φ'(s)(1, −1/(K−1), …), of size 1e-15 and less."""
    loss, classes = ufm.BiTempered(0.8, 1.2), 4
    gradient_at = quick_jit(loss.gradient)
    for s in (1e3, 1e4):
        gradient = np.asarray(gradient_at(jnp.asarray(s * np.eye(classes)[0]), np.int32(0)))
        slope = float(loss.profile_slope(np.float64(s), classes))
        expected = slope * np.array([1.0, *[-1.0 / (classes - 1)] * (classes - 1)])
        np.testing.assert_allclose(gradient, expected, rtol=1e-10)


def test_one_inflection_at_random_temperatures():
    rng = np.random.default_rng(0)
    for _ in range(30):
        loss = ufm.BiTempered(float(rng.uniform(0, 1)), float(1 + 10.0 ** rng.uniform(-3, 0.47)))
        classes = int(rng.integers(2, 200))
        edge = float(loss.margin_at(np.float64(loss.profile_convex_above(classes)), classes))
        far = np.geomspace(1e-6, 300.0, 1500)
        for side, sign in ((edge - far, -1.0), (edge + far, 1.0)):
            slopes = loss.profile_slope(side, classes)
            bends = np.diff(slopes) / np.diff(side)
            noise = 1e-13 * np.abs(slopes[1:]) / np.abs(np.diff(side))
            assert np.all(sign * bends >= -noise), (loss, classes, sign)


@pytest.mark.repeats
@pytest.mark.parametrize("classes", [4, 10])
@pytest.mark.parametrize("spec", SPECS)
def test_collapse_is_proven_at_any_decay_without_bias(spec, classes):
    loss = ufm.parse_loss(spec)
    s = np.concatenate([[0.0], np.geomspace(1e-6, 1e9, 250_001)])
    values = loss.profile(s, classes)
    rates = (values[0] - values[1:]) / s[1:]
    unit = ufm.Problem.balanced(
        loss=loss, num_classes=classes, per_class=2, dim=classes, lam_w=1.0, lam_h=1.0, lam_b=None
    )
    found = ufm.collapse_threshold(unit)
    scale = 2**0.5 * (classes - 1)
    assert float(found.mu) * scale == pytest.approx(rates.max(), rel=2e-5)
    assert bool(found.jumps) == (s[1 + np.argmax(rates)] > 0.1)
    for share in (0.02, 0.5, 0.98, 1.02):
        mu = share * float(found.mu)
        problem = ufm.Problem.balanced(
            loss=loss, num_classes=classes, per_class=2, dim=classes,
            lam_w=mu, lam_h=mu, lam_b=None,
        )  # fmt: skip
        minimum = ufm.global_minimum(problem)
        lowest = np.min(values + mu * scale * s)
        assert minimum.lower_bound <= lowest
        if spec != "bitempered:0,4" or share > 0.1:
            assert minimum.is_exact
            assert minimum.value == pytest.approx(lowest, abs=1e-8)
        else:  # the minimiser lies beyond the margins that are searched
            assert not minimum.is_exact or minimum.rho < 1e4


def test_a_certificate_of_collapse():
    problem = ufm.Problem.balanced(
        loss=ufm.BiTempered(), num_classes=4, per_class=2, dim=4, lam_w=0.03, lam_h=0.03, lam_b=None
    )
    point = ufm.global_minimum(problem).params(jax.random.key(0))
    assert ufm.certify(problem, point).verdict is ufm.Verdict.GLOBAL_MINIMUM
