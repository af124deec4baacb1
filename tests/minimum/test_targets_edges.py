"""Targets at the edges: tiny decays and probabilities, one group, features without a direction."""

import jax
import numpy as np
import pytest
from mpmath import mp

from ufm import (
    MSE,
    CrossEntropy,
    Problem,
    decay_path,
    global_minimum,
    init_params,
    nc_metrics,
    objective,
    solve,
    target_metrics,
    zero_decay_limit,
)
from ufm.losses import ClassWeighted

SOFT = np.random.default_rng(0).dirichlet(np.ones(3), 4)


@pytest.mark.parametrize("mu", [1e-6, 1e-15, 1e-40])
def test_the_formula_bounds_its_own_error_or_leaves_tiny_decays_to_duality(mu):
    rest = 1e-9  # f* is as small as its logarithm times this
    targets = rest + (1.0 - 4 * rest) * np.eye(4)
    problem = Problem(CrossEntropy(), (1,) * 4, 4, mu, mu, None, targets=targets)
    found = global_minimum(problem)
    assert found.is_exact
    # One level a: logits a P, −log p = log1p(3 e^{−a}), and the nuclear norm 3a.
    with mp.workdps(50):
        top, y, weight = mp.mpf(float(targets[0, 0])), mp.mpf(float(targets[0, 1])), mp.mpf(mu)
        others = (3 * y + 3 * weight) / (top + 3 * y)  # the probability of the other three
        level = mp.log(3 * (1 - others) / others)
        odds = mp.log1p(3 * mp.exp(-level))
        exact = top * odds + 3 * y * (level + odds) + 3 * weight * level
    assert found.lower_bound <= exact
    assert found.value == pytest.approx(float(exact), rel=1e-9)
    point = found.params(jax.random.key(0))
    assert found.lower_bound <= float(objective(problem, point))


def test_regression_metrics_leave_out_what_has_no_direction():
    # The third target is the mean: its centred feature is 0, up to rounding that differs by run.
    targets = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0]])
    problem = Problem(MSE(), (3, 3, 1), 4, 1e-3, 1e-3, 0.0, targets=targets)
    run = solve(problem, init_params(problem, jax.random.key(0)))
    for point in (run.params, global_minimum(problem).params(jax.random.key(0))):
        metrics = target_metrics(problem, point)
        assert max(metrics.nrc1, metrics.nrc2, metrics.nrc3) <= 1e-9
    # NRC3 belongs to ½‖z − y‖² with a free bias or none.
    others = [
        Problem(MSE(), (3, 3, 1), 4, 1e-3, 1e-3, 1e-2, targets=targets),
        Problem(
            ClassWeighted(MSE(), np.array([1.0, 2, 3])), (3, 3, 1), 4, 1e-3, 1e-3, 0.0,
            targets=targets,
        ),
        Problem(MSE(2.0, 3.0), (3, 3, 1), 4, 1e-3, 1e-3, 0.0, targets=np.eye(3)[[1, 0, 2]]),
    ]  # fmt: skip
    for other in others:
        assert np.isnan(target_metrics(other, run.params).nrc3)


def test_one_group_has_no_metrics_of_what_is_between_groups():
    one = Problem(CrossEntropy(), (7,), 4, 1e-3, 1e-3, 1e-2, targets=SOFT[:1])
    run = solve(one, init_params(one, jax.random.key(0)))
    assert np.isnan(nc_metrics(one, run.params).nc1)  # there is nothing between classes
    assert np.isnan(target_metrics(one, run.params).nrc1)  # and all features are the mean


def test_tiny_probabilities_are_in_the_first_order_formula():
    targets = np.array([[0.7 - 2e-11, 0.3, 2e-11], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    mu = 1e-14
    problem = Problem(CrossEntropy(), (2, 2, 2), 3, mu, mu, None, targets=targets)
    limit = zero_decay_limit(problem)

    def logits(p):
        return np.log(p) - np.mean(np.log(p), axis=0)

    # Where f is stationary, (p − y)/3 = −μ√2 UVᵀ, the gradient of μ‖Z‖_* with each column twice.
    # (No solver finds this logit to 1e-4, since 1e-4 of it changes f by 1e-20.)
    found = logits(targets.T)
    for _ in range(9):
        left, _, right = np.linalg.svd(found)  # of rank 2
        found = logits(targets.T - 3.0 * 2**0.5 * mu * left[:, :2] @ right[:2])
    # The logit of 2e-11 moves by 1e-3, and by its square beyond the first order.
    assert np.abs(limit.logits - found).max() > 5e-4
    np.testing.assert_allclose(limit.first_order(mu).logits, found, atol=1e-6)


def test_paths_and_formulas_beyond_their_range_are_refused():
    real = np.random.default_rng(0).standard_normal((2, 3))
    regression = Problem(MSE(), (5, 2), 4, 1e-2, 1e-2, None, targets=real)
    with pytest.raises(ValueError, match="mu=1 is too large"):
        zero_decay_limit(regression).first_order(1.0)
    wide = Problem(MSE(), (1, 1), 3, 1e-3, 1e-3, None, targets=np.ones((2, 2000)))
    with pytest.raises(ValueError, match="got 2 with 2000 outputs"):
        decay_path(wide, [1e-2])
