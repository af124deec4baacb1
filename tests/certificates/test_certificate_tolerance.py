"""The tolerance of a certificate: what it is relative to, and that rounding never raises it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser, wide_objective
from points import BALANCED, cast, certified, gaussian, make, origin, perturbed

from ufm import (
    MSE,
    CrossEntropy,
    CustomLoss,
    LabelSmoothing,
    Params,
    Problem,
    Reason,
    Verdict,
    certify,
    init_params,
    solve,
)


def half_square(z, label):
    return 0.5 * jnp.sum(z**2)


def lifted_entropy(z, label, level):
    return jax.nn.logsumexp(z) - z[label] + level


def test_rounding_never_buys_a_global_minimum():
    # The range of a free bias is bounded by f N/(n_min (1 − α)), times which the rounding of row
    # sums of zero is as large as f.
    problem = Problem(
        loss=LabelSmoothing(1 - 1e-10), class_counts=(1, 200), dim=2, lam_w=1e-3, lam_h=1e-3,
        lam_b=0.0,
    )  # fmt: skip
    for seed in range(3):
        point = init_params(problem, jax.random.key(seed))
        found = certify(problem, point)
        # Charged at the slope of the conjugate instead, it is what it is elsewhere.
        assert float(found.rounding) < 1e-9
        # f* ≤ f(0) = log 2, and the point is far above.
        assert float(wide_objective(problem, point)) > np.log(2) + 1e-3
        assert found.verdict is Verdict.NOT_CRITICAL
        assert float(found.tol) <= 1e-6 * np.log(2)


def test_single_precision_is_told_what_its_rounding_resolves():
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=3, per_class=1000, dim=4, lam_w=5e-4, lam_h=5e-6,
        lam_b=None,
    )  # fmt: skip
    small = make(
        CrossEntropy(), BALANCED, None, (5e-4 * 5e-6 * 500) ** 0.5, ratio=(100 / 500) ** 0.5
    )
    end = minimiser(small)
    # 500 times as many samples: λ_H is what it was for the class means.
    end = Params(end.W, jnp.repeat(end.H[:, ::2], 1000, axis=1), None)
    low = cast(end, np.float32)
    found = certify(problem, low)
    assert (found.verdict, found.reason) == (Verdict.UNDECIDED, Reason.TOLERANCE_BELOW_ROUNDING)
    assert "use float64" in found.explain()
    needed = float(re.search(r"tol=(\S+) resolves", found.explain())[1])
    asked = certify(problem, low, needed)
    assert asked.verdict is Verdict.GLOBAL_MINIMUM
    assert certify(problem, end).verdict is Verdict.GLOBAL_MINIMUM
    # Far from the minimum, though by less than rounding resolves.
    off = cast(perturbed(end, 0, 0.01), np.float32)
    excess = wide_objective(problem, off) - wide_objective(problem, end)
    found = certify(problem, off)
    assert 1e-5 < float(excess) < 4 * float(found.rounding)
    assert found.verdict is Verdict.NOT_CRITICAL


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_a_minimum_of_zero_is_no_counterexample(lam_b):
    problem = make(CustomLoss(half_square, convex=True, lower_bound=0.0), BALANCED, lam_b)
    end = solve(problem, init_params(problem, jax.random.key(0))).params
    found = certify(problem, end)
    assert 0 < float(found.value) < 1e-18
    assert (found.verdict, found.reason) == (Verdict.GLOBAL_MINIMUM, Reason.GAP_CLOSED)
    assert 0 < float(found.tol) <= 1e-9
    # A tolerance is no excuse for what is not small.
    assert certify(problem, gaussian(problem, 0, 1e-2)).verdict is Verdict.NOT_CRITICAL


def test_the_depth_is_that_of_the_loss_above_its_bound():
    """A constant added to the loss changes neither verdict nor tolerance."""
    plain = make(CrossEntropy(), BALANCED, 1e-2)
    end = minimiser(plain)
    points = [end, origin(plain), perturbed(end, 0, 1e-2)]
    expected = certified(plain, points)
    for level in (-7.0, 100.0):
        loss = CustomLoss(lifted_entropy, {"level": level}, convex=True, lower_bound=level)
        for one, other in zip(expected, certified(make(loss, BALANCED, 1e-2), points), strict=True):
            assert int(one.verdict) == int(other.verdict)
            assert float(other.tol) == pytest.approx(float(one.tol), rel=1e-6)
            assert float(other.depth) == pytest.approx(float(one.depth), rel=1e-6)


@pytest.mark.parametrize("tol", [None, 1e-6, 1e-3])
def test_the_least_depth_is_a_thousandth_of_the_loss_at_the_origin(tol):
    problem = make(CrossEntropy(), BALANCED, None, mu=1.0)  # beyond the collapse threshold
    found = certified(problem, [origin(problem), gaussian(problem, 0, 1.0)], tol)
    for one in found:
        assert float(one.tol) == pytest.approx(1e-3 * np.log(3) * (tol or 1e-6), rel=1e-12)
    assert [int(one.verdict) for one in found] == [Verdict.GLOBAL_MINIMUM, Verdict.NOT_CRITICAL]


def test_an_origin_whose_value_underflows_is_no_excuse():
    problem = Problem.balanced(
        loss=MSE(1.0, 1e-170), num_classes=3, per_class=2, dim=4, lam_w=1e-3, lam_h=1e-3, lam_b=None
    )
    small = Params(1e-7 * jnp.eye(3, 4), 1e-7 * jnp.ones((4, 6)), None)
    found = certify(problem, small)
    assert found.verdict in (Verdict.NOT_CRITICAL, Verdict.UNDECIDED)
    assert found.explain()
