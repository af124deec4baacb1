"""The symmetric minimum, its threshold and the margin bound, against scans, QPs and the model."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_model import plain_objective
from scipy.optimize import brentq

from ufm.collapse.symmetric_solution import (
    collapse_threshold,
    margin_lower_bound,
    proven_lower_bound,
    supported,
    symmetric_minimum,
)
from ufm.losses import MSE, CrossEntropy, CustomLoss, Focal, LabelSmoothing
from ufm.model.problem import Params, Problem

LAMBDAS = np.logspace(-6, 0, 25)
SOFTMAX = [CrossEntropy(), LabelSmoothing(0.1), *(Focal(g) for g in (0.5, 1.0, 3.0, 5.0))]
SQUARED = [MSE(), MSE(5.0, 3.0), MSE(0.2, 2.0)]
every_bias = pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2], ids=["none", "free", "decayed"])


def by_label(losses):
    return pytest.mark.parametrize("loss", losses, ids=lambda loss: loss.label())


def make(loss, lam, lam_b=None, classes=10, per_class=100, dim=16) -> Problem:
    """λ_W and λ_H differ, with geometric mean λ."""
    return Problem.balanced(
        loss=loss,
        num_classes=classes,
        per_class=per_class,
        dim=dim,
        lam_w=4 * lam,
        lam_h=lam / 4,
        lam_b=lam_b,
    )


@jax.jit
def minima(problem):
    """One for each λ of a batch."""
    axes = jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, problem)
    return jax.vmap(symmetric_minimum, in_axes=(axes,))(problem)


def swept(loss, lam_b):
    """The same one by one, on the host."""
    found = [symmetric_minimum(make(loss, float(lam), lam_b)) for lam in LAMBDAS]
    return jax.tree.map(lambda *x: np.stack(x), *found)


def margin_loss(loss, classes: int, s):
    """φ(s) and φ'(s): the loss where the label leads every other class by s."""
    odds = (classes - 1) * np.exp(-s)
    u, ell = odds / (1 + odds), np.log1p(odds)
    match loss:
        case Focal(gamma):
            return u**gamma * ell, -(u ** (gamma + 1)) - gamma * u**gamma * (1 - u) * ell
        case LabelSmoothing(alpha):
            tilt = alpha * (classes - 1) / classes
            return ell + tilt * s, tilt - u
        case _:
            return ell, -u


def scan(loss, classes: int, cost: float) -> tuple[float, float]:
    """argmin and min over s ≥ 0 of φ(s) + cost·s: a scan, polished at its stationary point."""
    grid = np.linspace(0, 60, 60_001)
    values = margin_loss(loss, classes, grid)[0] + cost * grid
    best = int(np.argmin(values))
    rho = 0.0

    def slope(s: float) -> float:
        return margin_loss(loss, classes, s)[1] + cost

    low, high = grid[max(best - 1, 0)], grid[best + 1]
    if slope(low) < 0:
        rho = brentq(slope, low, high, xtol=1e-14, rtol=1e-14)
    return rho, margin_loss(loss, classes, rho)[0] + cost * rho


@pytest.mark.repeats
@every_bias
@by_label(SOFTMAX)
def test_the_symmetric_minimum_of_a_softmax_loss_is_that_of_a_scan(loss, lam_b):
    found = swept(loss, lam_b)
    truth = np.array([scan(loss, 10, lam * 10 * 9) for lam in LAMBDAS])
    np.testing.assert_allclose(found.rho, truth[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.value, truth[:, 1], rtol=1e-13)
    assert np.all(np.asarray(found.tau) == 0)
    assert np.all(np.asarray(found.bias_level) == 0)
    assert 0 < np.sum(truth[:, 0] > 0) < len(LAMBDAS)  # both sides of the threshold were seen


@by_label([CrossEntropy(), LabelSmoothing(0.1)])
def test_closed_forms_of_cross_entropy_and_label_smoothing(loss):
    rate, alpha = LAMBDAS * 10, getattr(loss, "alpha", 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.log(1 / (alpha / 10 + rate) - 9)
    rho = np.where(10 * rate >= 1 - alpha, 0.0, rho)
    np.testing.assert_allclose(swept(loss, None).rho, rho, rtol=1e-12, atol=1e-12)


def test_cross_entropy_at_the_numbers_of_the_reference():
    # K=10, n=100, λ_W = λ_H = 5e-4; the value by an independent solver.
    found = symmetric_minimum(make(CrossEntropy(), 5e-4))
    assert float(found.rho) == pytest.approx(5.25227342804663, rel=1e-13, abs=0)
    assert float(found.value) == pytest.approx(0.28239624276350517, rel=1e-13, abs=0)


def squared_minimum(loss: MSE, rate: float, lam_b) -> np.ndarray:
    """(ρ, τ, b₀, f): the best stationary point over all sign patterns of ρ and τ, K = 10."""
    classes, scale, target = 10, loss.scale, loss.target
    rows = np.array([[1 - 1 / classes, 1 / classes, 1.0], [-1 / classes, 1 / classes, 1.0]])
    weights, goal = np.array([scale, classes - 1.0]), np.array([target, 0.0])
    curvature = (rows.T * weights) @ rows
    curvature[2, 2] += classes * (lam_b or 0.0)

    def value(x):
        fit = 0.5 * np.sum(weights * (rows @ x - goal) ** 2)
        cost = rate * ((classes - 1) * abs(x[0]) + abs(x[1]))
        return fit + cost + 0.5 * classes * (lam_b or 0.0) * x[2] ** 2

    candidates = []
    for signs in itertools.product((-1, 0, 1), repeat=2):
        free = [i for i in range(3) if (i < 2 and signs[i]) or (i == 2 and lam_b is not None)]
        x = np.zeros(3)
        if free:
            cost = rate * np.array([(classes - 1) * signs[0], signs[1], 0])
            pull = (rows.T * weights) @ goal - cost
            x[free] = np.linalg.lstsq(curvature[np.ix_(free, free)], pull[free], rcond=1e-12)[0]
        candidates.append((value(x), *x))
    best = min(candidates)
    return np.array([*best[1:], best[0]])


@pytest.mark.repeats
@every_bias
@by_label(SQUARED)
def test_the_symmetric_minimum_of_squared_error_is_that_of_a_quadratic_program(loss, lam_b):
    found = swept(loss, lam_b)
    truth = np.array([squared_minimum(loss, lam * 10, lam_b) for lam in LAMBDAS])
    scalars = np.stack([found.rho, found.tau, found.bias_level, found.value], axis=1)
    np.testing.assert_allclose(scalars, truth, rtol=1e-10, atol=1e-11)
    assert 0 < np.sum(truth[:, 0] > 0) < len(LAMBDAS)


@pytest.mark.repeats
@every_bias
@by_label([*SOFTMAX[:3], *SQUARED, MSE(1e3, 1e-3), MSE(1e-3, 1e3)])
def test_the_proven_bound_is_the_minimum_to_rounding_and_never_above_it(loss, lam_b):
    for lam in LAMBDAS:
        problem = make(loss, float(lam), lam_b)
        if isinstance(loss, MSE):
            truth = squared_minimum(loss, lam * 10, lam_b)[-1]
            origin = 0.5 * loss.scale * loss.target**2
        else:
            truth, origin = scan(loss, 10, lam * 10 * 9)[1], np.log(10)
        if isinstance(loss, Focal) and lam_b is not None and lam * 10 * 9 > 1:
            continue  # there it is a bound and no more
        bound, rounding = proven_lower_bound(problem)
        assert truth * (1 + 1e-14) - 1e-12 * origin <= bound <= truth
        assert 0 < rounding <= 1e-12 * origin


@every_bias
def test_closed_forms_of_squared_error(lam_b):
    rate = LAMBDAS * 10
    found, rho = swept(MSE(), lam_b), np.maximum(1 - 10 * rate, 0)
    level = np.full_like(rho, 0.1 / (1 + (lam_b or 0)))
    tau = np.zeros_like(rho)
    if lam_b is None:
        tau, level = rho, np.zeros_like(rho)
    elif lam_b > 0:
        tau = np.maximum(1 - 10 * rate * (1 + lam_b) / lam_b, 0)
        level = np.where(tau > 0, rate / lam_b, level)
    for name, truth in (("rho", rho), ("tau", tau), ("bias_level", level)):
        np.testing.assert_allclose(getattr(found, name), truth, rtol=1e-12, atol=1e-12)


def test_closed_form_of_rescaled_squared_error_without_bias():
    found, rho = swept(MSE(5.0, 3.0), None), np.maximum(3 - 10 * LAMBDAS * 10 / 5, 0)
    np.testing.assert_allclose(found.rho, rho, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.tau, rho, rtol=1e-12, atol=1e-12)


def placed(problem: Problem) -> Params:
    """A factorisation of the symmetric minimum's Z = (ρP + (τ/K) 11ᵀ) ⊗ 1ᵀ, K = 3, d = 4."""
    found = symmetric_minimum(problem)
    ones = np.full((3, 3), 1 / 3)
    Z = np.repeat(float(found.rho) * (np.eye(3) - ones) + float(found.tau) * ones, 2, axis=1)
    left, sizes, right = np.linalg.svd(Z, full_matrices=False)
    balance = (problem.lam_h / problem.lam_w) ** 0.25
    W, H = np.zeros((3, 4)), np.zeros((4, 6))
    W[:, :3] = balance * left * np.sqrt(sizes)
    H[:3] = np.sqrt(sizes)[:, None] * right / balance
    b = jnp.full(3, found.bias_level) if problem.has_bias else None
    return Params(jnp.asarray(W), jnp.asarray(H), b)


@every_bias
@by_label([LabelSmoothing(0.1), Focal(3.0), *SQUARED])
def test_the_model_has_the_value_of_the_symmetric_minimum_and_none_below_it_nearby(loss, lam_b):
    problem = make(loss, 0.02, lam_b, classes=3, per_class=2, dim=4)
    value, params = float(symmetric_minimum(problem).value), placed(problem)
    assert plain_objective(problem, params) == pytest.approx(value, rel=1e-13, abs=0)
    rng = np.random.default_rng(0)
    for size in np.logspace(-4, -1, 60):
        moved = jax.tree.map(lambda x, h=size: x + h * rng.normal(size=x.shape), params)
        assert plain_objective(problem, moved) >= value * (1 - 1e-13)


# The collapse threshold ---------------------------------------------------------------------------


def test_thresholds_in_closed_form():
    for loss, threshold in ((CrossEntropy(), 0.1), (LabelSmoothing(0.3), 0.07), (MSE(), 0.1)):
        found = collapse_threshold(make(loss, 1e-3))
        assert float(found.mu) == pytest.approx(threshold / 10, rel=1e-13, abs=0)
        assert not found.jumps
    # Focal loss, continuous: the slope of φ at 0.
    found = collapse_threshold(make(Focal(3.0), 1e-3))
    slope = margin_loss(Focal(3.0), 10, 0.0)[1]
    assert float(found.mu) * 10 * 9 == pytest.approx(-slope, rel=1e-13, abs=0)
    assert not found.jumps


def test_the_focal_loss_ties_at_the_value_of_the_reference_and_jumps():
    for per_class in (1, 4):
        found = collapse_threshold(make(Focal(3.0), 1e-3, classes=100, per_class=per_class))
        assert float(found.mu) * per_class**0.5 == pytest.approx(0.01175, abs=5e-6)
        assert found.jumps
    tie = brentq(
        lambda c: scan(Focal(3.0), 100, c)[1] - margin_loss(Focal(3.0), 100, 0.0)[0] + 1e-13,
        *(1.0, 1.3),
        xtol=1e-9,
    )
    assert float(found.mu) * 2 * 99 == pytest.approx(tie, rel=1e-7, abs=0)


def test_the_focal_loss_jumps_where_the_origin_is_in_the_concave_region():
    for classes in (17, 18):
        found = collapse_threshold(make(Focal(3.0), 1e-3, classes=classes, dim=classes))
        assert bool(found.jumps) == (1 / classes < 0.0575)


@pytest.mark.parametrize(
    ("loss", "classes", "below"),
    [
        *((loss, 10, (0.0, 0.05)) for loss in (CrossEntropy(), LabelSmoothing(0.3), Focal(3.0))),
        (Focal(3.0), 100, (2.0, 3.0)),  # the jump, to 2.38
    ],
    ids=str,
)
def test_the_minimum_leaves_the_origin_at_the_threshold(loss, classes, below):
    mu = float(collapse_threshold(make(loss, 1e-3, classes=classes, dim=classes)).mu)
    near = jnp.array([1 - 1e-3, 1 + 1e-3]) * mu
    rho = minima(make(loss, near, classes=classes, dim=classes)).rho
    assert below[0] < float(rho[0]) < below[1]
    assert float(rho[1]) == 0.0


@every_bias
@by_label(SQUARED)
def test_squared_error_leaves_the_origin_at_the_threshold(loss, lam_b):
    mu = float(collapse_threshold(make(loss, 1e-3, lam_b)).mu)
    for factor, gone in ((1 - 1e-6, False), (1 + 1e-6, True)):
        rho = squared_minimum(loss, factor * mu * 10, lam_b)[0]
        assert (rho <= 1e-12) == gone
    # Once gone it stays so, and it was there all the way down.
    rho = np.array([squared_minimum(loss, r * mu * 10, lam_b)[0] for r in (0.01, 0.5, 2, 50)])
    assert np.all((rho > 1e-12) == [True, True, False, False])


# What is not supported, and transformations -------------------------------------------------------


def plain_fn(logits, label):
    return -logits[label]


@pytest.mark.parametrize("function", [symmetric_minimum, collapse_threshold, margin_lower_bound])
@pytest.mark.parametrize(
    "problem",
    [
        Problem(CrossEntropy(), (3, 2, 1), 4, 1e-2, 1e-2, None),
        Problem(CrossEntropy(), (2, 2, 2), 4, 1e-2, 1e-2, None, jnp.ones(6)),
        Problem(CustomLoss(plain_fn), (2, 2, 2), 4, 1e-2, 1e-2, None),
    ],
    ids=["imbalanced", "weighted", "custom loss"],
)
def test_other_problems_are_refused_with_the_way_out(function, problem):
    assert not supported(problem)
    with pytest.raises(ValueError, match="Use global_minimum for other problems"):
        function(problem)


def test_the_margin_bound_refuses_squared_error():
    assert supported(make(MSE(), 1e-3))
    with pytest.raises(ValueError, match="MSE"):
        margin_lower_bound(make(MSE(), 1e-3))


def test_batches_of_problems_equal_single_ones():
    lams = jnp.array([1e-4, 1e-3, 2e-2])
    batch = minima(make(Focal(3.0), lams))
    for i, lam in enumerate(lams):
        one = symmetric_minimum(make(Focal(3.0), float(lam)))
        np.testing.assert_allclose(batch.rho[i], one.rho, rtol=1e-12)
        np.testing.assert_allclose(batch.value[i], one.value, rtol=1e-14)
    gammas = jnp.array([0.0, 1.0, 3.0])
    mus = jax.jit(jax.vmap(lambda g: collapse_threshold(make(Focal(g), 1e-3)).mu))(gammas)
    assert float(mus[0]) == pytest.approx(0.01, rel=1e-13, abs=0)
    assert float(mus[2]) == pytest.approx(float(collapse_threshold(make(Focal(3.0), 1.0)).mu))
