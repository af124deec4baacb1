"""A given classifier: minima against formulas and a convex solver, certificates, runs."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from norm_oracle import random_point, temperature, value
from plain_model import plain_loss
from scipy.optimize import minimize_scalar

import ufm

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp

KEY = jax.random.key(0)
CE, LS, FL, MSE = ufm.CrossEntropy(), ufm.LabelSmoothing(0.1), ufm.Focal(3.0), ufm.MSE()
SKEWED, DIM = (4, 2, 1), 4
SIZE = 1.7
FRAME = SIZE * np.sqrt(2 / 3) * np.asarray(ufm.simplex_etf(KEY, 3, DIM))
ANY = np.random.default_rng(0).standard_normal((3, DIM))


def make(W, features=None, loss=CE, counts=SKEWED, lam_b=None, tau=0.8):
    decay = 2e-2 if features is None else None
    kwargs = {"lam_w": None, "lam_h": decay, "lam_b": lam_b, "temperature": tau}
    return ufm.Problem(loss, counts, DIM, classifier=ufm.Fixed(W), features=features, **kwargs)


def frame_formula(problem):
    """f* for WWᵀ = w²P without a bias, by a scan of the margin."""
    K, N, tau = 3, problem.num_columns, temperature(problem)
    largest, rate = 60.0, 0.0
    if problem.features is None:
        rate = N * problem.lam_h * tau**2 * (K - 1) / (K * SIZE**2)
    else:
        radius = getattr(problem.features, "radius", None) or problem.features.mean_square**0.5
        largest = SIZE * radius * np.sqrt(K / (K - 1)) / tau
    found = minimize_scalar(
        lambda s: plain_loss(problem.loss, s * np.eye(K)[0], 0) + rate * s**2 / 2,
        bounds=(0.0, largest),
        options={"xatol": 1e-12},
        method="bounded",
    )
    return min(
        found.fun, plain_loss(problem.loss, largest * np.eye(K)[0], 0) + rate * largest**2 / 2
    )


def convex_minimum(problem):
    """f* over features in balls, or decayed, by an interior-point method on class means."""
    counts = np.array(problem.class_counts, float)
    share, N = counts / counts.sum(), counts.sum()
    H = cp.Variable((DIM, 3))
    V, cost, constraints = np.asarray(problem.classifier.matrix) @ H / temperature(problem), 0, []
    if problem.has_bias:
        b = cp.Variable((3, 1))
        V = V + b @ np.ones((1, 3))
        cost += problem.lam_b / 2 * cp.sum_squares(b)
    if isinstance(problem.loss, ufm.MSE):
        cost += 0.5 * cp.sum(cp.multiply(share[None, :], cp.square(V - np.eye(3))))
    else:
        alpha = getattr(problem.loss, "alpha", 0.0)
        soft = (1 - alpha) * np.eye(3) + alpha / 3
        cost += cp.sum(cp.multiply(share, cp.log_sum_exp(V, axis=0)))
        cost -= cp.sum(cp.multiply(soft * share, V))
    squares = cp.sum(cp.square(H), axis=0)
    match problem.features:
        case ufm.Budget(mean_square):
            constraints.append(counts @ squares <= N * mean_square)
        case None:
            cost += problem.lam_h / 2 * (counts @ squares)
        case bounded:
            constraints.append(squares <= bounded.radius**2)
    program = cp.Problem(cp.Minimize(cost), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return float(program.value)


@pytest.mark.parametrize("features", [None, ufm.Sphere(), ufm.Ball(0.7), ufm.Budget(0.8)])
@pytest.mark.parametrize("loss", [CE, LS, FL], ids=lambda x: x.label())
def test_the_simplex_frame_has_the_value_of_the_formula_for_any_counts(features, loss):
    for counts, tau in ((SKEWED, 0.8), ((2, 2, 2), 2.0)):
        problem = make(FRAME, features, loss, counts, tau=tau)
        found = ufm.global_minimum(problem)
        assert found.is_exact
        assert found.value == pytest.approx(frame_formula(problem), abs=1e-11)
        params = found.params(KEY)
        np.testing.assert_array_equal(params.W, FRAME)
        assert value(problem, params) == pytest.approx(found.value, abs=1e-13)


def test_squared_error_on_the_simplex_frame():
    lam_h, w2 = 2e-2, SIZE**2
    for counts, lam_b in ((SKEWED, None), ((2, 2, 2), 0.05)):
        problem = make(FRAME, None, MSE, counts, lam_b, tau=None)
        rho = w2 / (w2 + sum(counts) * lam_h)
        rest = 1 / 3 if lam_b is None else lam_b / (3 * (1 + lam_b))
        expected = 0.5 * (2 * (1 - rho) / 3 + rest)
        assert ufm.global_minimum(problem).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("features", "loss", "lam_b"),
    [
        (None, MSE, 0.0),
        (ufm.Sphere(), CE, 0.05),
        (ufm.Budget(0.8), LS, 0.0),
    ],
)
def test_any_classifier_has_the_value_of_the_convex_solver(features, loss, lam_b):
    problem = make(ANY, features, loss, lam_b=lam_b)
    found = ufm.global_minimum(problem)
    assert found.value == pytest.approx(convex_minimum(problem), abs=1e-8)
    assert found.is_exact
    assert found.value - found.lower_bound < 1e-9
    run = ufm.solve(problem, ufm.init_params(problem, KEY))
    assert run.status is ufm.Status.CONVERGED
    np.testing.assert_array_equal(run.params.W, ANY)
    assert float(run.value) == pytest.approx(found.value, abs=1e-12)
    certificate = ufm.certify(problem, run.params)
    assert certificate.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert ufm.compare_geometry(problem, run.params, found).matches is True
    rng = np.random.default_rng(2)
    for _ in range(10):
        other = ufm.certify(problem, random_point(problem, rng))
        assert float(other.lower_bound) <= found.value + 1e-15


def test_the_gap_of_decayed_features_is_that_of_strong_convexity():
    """f − f* ≤ ‖∂_H f‖²/(2λ_H) + ‖∂_b f‖²/(2λ_b), with equality to it at class means."""
    problem = make(ANY, None, CE, (1, 1, 1), 0.05)
    rng, best = np.random.default_rng(5), ufm.global_minimum(problem).params(None)
    H, b = (x + 1e-2 * jnp.asarray(rng.standard_normal(x.shape)) for x in (best.H, best.b))
    point = ufm.Params(best.W, H, b)
    grad = jax.grad(lambda x: ufm.objective(problem, x))(point)
    expected = float(jnp.sum(grad.H**2)) / 0.04 + float(jnp.sum(grad.b**2)) / 0.1
    assert float(ufm.certify(problem, point).gap) == pytest.approx(expected, rel=1e-9)


def test_without_a_bias_features_do_not_depend_on_the_counts():
    means = [
        ufm.global_minimum(make(ANY, None, CE, counts)).means for counts in ((5, 3, 2), (2, 3, 5))
    ]
    np.testing.assert_allclose(*means, atol=1e-9)


def test_verify_and_what_is_refused():
    problem = make(ANY, ufm.Sphere())
    found = ufm.verify(problem, KEY, 2)
    assert found.num_global == found.num_matching == 2
    assert ufm.inertia(problem, found.minimum.params(None)).negative == 0
    other = dataclasses.replace(found.minimum.params(None), W=jnp.asarray(ANY) + 0.1)
    with pytest.raises(ValueError, match=r"params\.W is not in the set classifier=Fixed"):
        ufm.certify(problem, other)
    with pytest.raises(ValueError, match="no variant of the model has classifier=Fixed"):
        ufm.init_params(dataclasses.replace(make(ANY), features=ufm.NonNegative()), KEY)
    with pytest.raises(ValueError, match="does not support problems with a fixed classifier"):
        ufm.nearest_minimiser(problem, found.minimum.params(None))


def test_a_feature_on_the_wrong_side_of_its_sphere_is_a_saddle():
    problem = make(FRAME, ufm.Sphere(), CE, (2, 2, 2))
    params = ufm.global_minimum(problem).params(None)
    turned = dataclasses.replace(params, H=params.H.at[:, 0].multiply(-1.0))
    found = ufm.certify(problem, turned)
    assert float(found.grad_norm) < 1e-12
    assert found.verdict is ufm.Verdict.STRICT_SADDLE


def test_a_comparison_finds_its_own_minimum():
    problem = make(FRAME)
    point = ufm.global_minimum(problem).params(None)
    assert ufm.compare_geometry(problem, point).matches is True
    frame = ufm.frame_metrics(problem, point)
    assert float(frame.cosine_min) == pytest.approx(-1 / 2)
    assert float(frame.cosine_max) == pytest.approx(-1 / 2)
