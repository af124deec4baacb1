"""Measured last layers: minimisers recognised, every number against dense NumPy, ReLU's floor."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from last_layer_oracle import collapse, distances, gradient, simplex_minimiser
from scipy.optimize import minimize

import ufm
from ufm import MSE, CrossEntropy, Params, Problem, Verdict
from ufm.certificates.dual_state import dual_state
from ufm.networks.measures.compression import compressed
from ufm.networks.measures.last_layer import ModelView, measure_last_layer

# d is more than 3K+1, so that all is measured in compressed coordinates.
K, N_K, DIM = 4, 5, 14
COUNTS, N = (N_K,) * K, K * N_K
LABELS = np.repeat(np.arange(K), N_K)
DECAY = 2e-2


def problem_of(loss, lam_w, lam_b, lam_h=5e-3) -> Problem:
    return Problem(loss, COUNTS, DIM, lam_w, lam_h, lam_b)


def turned(params, seed=0):
    """The same point in DIM dimensions, in a random orientation, as NumPy arrays."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIM, DIM)))[0]
    Q = Q[: params.W.shape[1]]
    b = None if params.b is None else np.asarray(params.b)
    return np.asarray(params.W) @ Q, Q.T @ np.asarray(params.H), b


def relu_layer(seed=1):
    """Class-dependent non-negative features with scatter in all dimensions, as networks have."""
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.random((DIM, K))
    H = np.maximum(means[:, LABELS] + 0.3 * rng.standard_normal((DIM, N)), 0)
    return 0.5 * rng.standard_normal((K, DIM)), H, 0.2 * rng.standard_normal(K)


def is_minimiser(view: ModelView) -> None:
    assert view.verdict is Verdict.GLOBAL_MINIMUM
    assert view.dual_ratio == pytest.approx(1, rel=1e-6)
    assert view.lam_h_fit == pytest.approx(view.lam_h, rel=1e-6)
    for name in ("distance", "shape_distance", "classifier_distance", "feature_distance"):
        assert getattr(view, name) < 1e-6
    assert max(view.residual_w, view.residual_h, view.residual_b, view.bias_distance) < 1e-6
    assert 0 <= view.relative_gap < 1e-6
    assert abs(view.relative_excess) < 1e-10


# Minimisers --------------------------------------------------------------------------------------


@pytest.mark.repeats
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_solution_is_recognised_with_its_decays(factor):
    problem = Problem(CrossEntropy(), COUNTS, 6, DECAY, 5e-3, DECAY)
    found = ufm.solve(problem, ufm.init_params(problem, jax.random.key(0)))
    # A network trained on factor · L with factor · λ has this objective times the factor.
    layer = measure_last_layer(*turned(found.params), COUNTS, problem.loss, factor, factor * DECAY)
    for view in (layer.as_trained, layer.centred):
        assert view.lam_w == pytest.approx(DECAY, rel=1e-15)
        assert view.lam_h == pytest.approx(5e-3, rel=1e-7)
        assert view.mu == pytest.approx(1e-2, rel=1e-7)
        is_minimiser(view)
    assert layer.as_trained.lam_b == pytest.approx(DECAY, rel=1e-15)
    assert layer.centred.lam_b == 0
    assert max(layer.nc1, layer.nc2, layer.nc3, layer.nc4) < 1e-6


def test_minimisers_of_the_squared_error_with_either_bias():
    # The MSE of the paper averages over K outputs and has no ½: 2/K times the library's.
    loss, factor = MSE(1.0, 15.0), 2 / K
    lam = DECAY / factor
    for lam_b, name in ((lam, "as_trained"), (0.0, "centred")):
        params = ufm.global_minimum(problem_of(loss, lam, lam_b)).params(jax.random.key(3))
        layer = measure_last_layer(*turned(params), COUNTS, loss, factor, DECAY)
        view = getattr(layer, name)
        assert view.lam_w == pytest.approx(lam, rel=1e-15)
        assert view.lam_h == pytest.approx(5e-3, rel=1e-9)
        is_minimiser(view)


def test_sizes_and_shapes_are_told_apart():
    problem = problem_of(CrossEntropy(), DECAY, DECAY)
    W, H, b = turned(ufm.global_minimum(problem).params(jax.random.key(0)))
    view = measure_last_layer(0.5 * W, 0.5 * H, b, COUNTS, problem.loss, 1.0, DECAY).as_trained
    for name in ("distance", "classifier_distance", "feature_distance"):
        assert getattr(view, name) == pytest.approx(0.5, rel=1e-9)
    assert view.shape_distance < 1e-9
    assert view.relative_excess > 0.01


# Every number ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ce", "mse:1,15"])
def test_every_number_against_dense_numpy(name):
    loss, factor = (CrossEntropy(), 1.0) if name == "ce" else (MSE(1.0, 15.0), 2 / K)
    W, H, b = relu_layer()
    layer = measure_last_layer(W, H, b, COUNTS, loss, factor, DECAY)
    found = (layer.nc1, layer.nc2, layer.nc3, layer.within_between_ratio)
    np.testing.assert_allclose(found, collapse(W, H, LABELS), rtol=1e-9)
    norms = [np.linalg.norm(x) for x in (W, H, b)]
    np.testing.assert_allclose((layer.norm_w, layer.norm_h, layer.norm_b), norms, rtol=1e-14)
    lam = DECAY / factor
    check_view(layer.as_trained, name, W, H, b, lam, lam)
    mean = H.mean(axis=1)
    check_view(layer.centred, name, W, H - mean[:, None], b + W @ mean, lam, 0.0)


def check_view(view, name, W, H, b, lam, lam_b) -> None:
    G, fit = gradient(name, W @ H + b[:, None], LABELS)
    lam_h = lam * np.sum(W**2) / np.sum(H**2)
    mu = np.sqrt(lam * lam_h)
    value = fit + 0.5 * (lam * np.sum(W**2) + lam_h * np.sum(H**2) + lam_b * np.sum(b**2))
    # The least squares of λ_H H + WᵀG = 0, by a solver.
    solved = np.linalg.lstsq(H.reshape(-1, 1), -(W.T @ G).ravel())[0][0]
    expected = {
        "lam_w": lam,
        "lam_b": lam_b,
        "lam_h": lam_h,
        "lam_h_fit": solved,
        "mu": mu,
        "dual_ratio": np.linalg.norm(G, 2) / mu,
        "residual_w": np.linalg.norm(G @ H.T + lam * W) / np.linalg.norm(lam * W),
        "residual_h": np.linalg.norm(W.T @ G + lam_h * H) / np.linalg.norm(lam_h * H),
        "residual_b": np.linalg.norm(G.sum(axis=1) + lam_b * b),
        "value": value,
    }
    root = mu * np.sqrt(N_K)
    # THEORY: the collapse threshold 1/(K√n), M times that for targets M.
    expected["threshold_ratio"] = K * root / (1 if name == "ce" else 15)
    if name == "ce":
        rho, level = np.log((1 - (K - 1) * root) / root), None
        bias_apart = b - b.mean() if lam_b == 0 else b
    elif lam_b == 0:
        rho, level = 15 - K * root, 15 / K
        bias_apart = b - level
    else:  # its minimiser is no simplex
        rho = None
    if rho is not None:
        star = (K - 1) * root * rho
        V = rho * (np.eye(K) - 1 / K)[:, LABELS] + (level or 0.0)
        star += gradient(name, V, LABELS)[1]
        depth = gradient(name, 0 * V, LABELS)[1] - star
        expected |= {"minimum_value": star, "relative_excess": (value - star) / depth}
        expected["relative_gap"] = (value - view.lower_bound) / depth
        frame = simplex_minimiser(K, N_K, DIM, rho, lam, lam_h)
        apart = np.linalg.norm(bias_apart)
        expected["bias_distance"] = apart
        expected["distance"], expected["shape_distance"] = distances(
            W, H, *frame, lam, lam_h, apart
        )
        assert view.lower_bound <= star + 1e-12
    for key, number in expected.items():
        assert getattr(view, key) == pytest.approx(number, rel=1e-8), key
    assert view.verdict is Verdict.NOT_CRITICAL


def test_the_compressed_layer_is_the_layer():
    W, H, b = relu_layer()
    problem = problem_of(CrossEntropy(), DECAY, DECAY)
    params = Params(*(jnp.asarray(x) for x in (W, H, b)))
    small, point = compressed(problem, params)
    assert small.dim == point.W.shape[1] == len(point.H) == 3 * K + 1
    states = [jax.jit(dual_state)(*x) for x in ((problem, params), (small, point))]
    for name in ("value", "grad_norm", "dual_norm", "top_left"):
        full, less = (getattr(state, name) for state in states)
        np.testing.assert_allclose(less, full, rtol=1e-10, err_msg=name)
    full, less = (ufm.nc_metrics(*x) for x in ((problem, params), (small, point)))
    for field in dataclasses.fields(full):
        assert float(getattr(less, field.name)) == pytest.approx(
            float(getattr(full, field.name)), rel=1e-10
        )
    full, less = (ufm.nearest_minimiser(*x) for x in ((problem, params), (small, point)))
    assert full is not None
    assert less is not None
    assert float(less.distance) == pytest.approx(float(full.distance), rel=1e-10)
    assert compressed(small, point)[1] is point  # nothing to gain


# The effective decay of features -----------------------------------------------------------------


def test_both_effective_decays_agree_where_the_classifier_is_stationary():
    _, H, _ = relu_layer()

    def objective(flat):
        W, b = flat[: K * DIM].reshape(K, DIM), flat[K * DIM :]
        G, fit = gradient("ce", W @ H + b[:, None], LABELS)
        value = fit + 0.5 * DECAY * np.sum(flat**2)
        return value, np.concatenate([(G @ H.T).ravel(), G.sum(axis=1)]) + DECAY * flat

    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 10_000}
    best = minimize(objective, np.zeros(K * DIM + K), jac=True, method="L-BFGS-B", options=options)
    W, b = best.x[: K * DIM].reshape(K, DIM), best.x[K * DIM :]
    view = measure_last_layer(W, H, b, COUNTS, CrossEntropy(), 1.0, DECAY).as_trained
    assert view.residual_w < 1e-5
    assert view.lam_h_fit == pytest.approx(view.lam_h, rel=1e-5)
    assert view.residual_h > 0.1  # features are not free
    assert view.dual_ratio >= 1  # λ_W‖W‖ = ‖GHᵀ‖ ≤ ‖G‖₂‖H‖
    smaller = measure_last_layer(0.9 * W, H, b, COUNTS, CrossEntropy(), 1.0, DECAY).as_trained
    assert smaller.lam_h_fit > 1.1 * smaller.lam_h


# Features after a ReLU ---------------------------------------------------------------------------


def test_the_mean_of_non_negative_features_is_all_that_separates_them():
    problem = problem_of(CrossEntropy(), DECAY, DECAY)
    W, H, b = turned(ufm.global_minimum(problem).params(jax.random.key(0)))
    # Orthogonal class features of the same H̃: the most that a ReLU allows.
    size = np.linalg.norm(H) / np.sqrt(N * (1 - 1 / K))
    H_star, frame = H.reshape(DIM, K, N_K)[:, :, 0], np.zeros((DIM, K))
    frame[:K] = size * np.eye(K)
    U, _, Vt = np.linalg.svd(H_star @ (frame - frame.mean(axis=1, keepdims=True)).T)
    W, H = W @ U @ Vt, np.repeat(frame, N_K, axis=1)  # turned as H* to H̃
    layer = measure_last_layer(W, H, b, COUNTS, CrossEntropy(), 1.0, DECAY)
    is_minimiser(layer.centred)
    assert layer.nc1 < 1e-12
    assert layer.as_trained.dual_ratio == pytest.approx(np.sqrt(K / (K - 1)), rel=1e-9)
    mean = np.linalg.norm(H.mean(axis=1))
    assert mean**2 * N == pytest.approx(np.sum(H**2) / K)
    # H* for the smaller λ_H differs in size: what is left of the distance is at least the mean.
    assert layer.as_trained.feature_distance >= mean * np.sqrt(N) / np.linalg.norm(H)
    assert layer.as_trained.verdict is Verdict.NOT_CRITICAL


# Where numbers are undefined ---------------------------------------------------------------------


def test_a_diverged_network_is_nan_not_an_error():
    W, H, b = relu_layer()
    H[0, 0] = np.inf
    row = measure_last_layer(W, H, b, COUNTS, CrossEntropy(), 1.0, DECAY).row()
    assert all(isinstance(x, float) for x in row.values())
    assert np.isnan([row["nc1"], row["dual_ratio"], row["centred_distance"]]).all()
    assert row["verdict"] == Verdict.UNDECIDED
    assert row["lam_w"] == DECAY


def test_dead_features_and_no_decay_leave_the_model_undefined():
    W, H, b = relu_layer()
    dead = measure_last_layer(W, 0 * H, b, COUNTS, CrossEntropy(), 1.0, DECAY)
    assert np.isnan([dead.nc1, dead.as_trained.lam_h, dead.centred.distance]).all()
    free = measure_last_layer(W, H, b, COUNTS, CrossEntropy(), 1.0, 0.0)
    assert free.nc1 > 0
    assert np.isnan([free.as_trained.dual_ratio, free.as_trained.residual_w]).all()
    assert np.isnan([free.centred.distance, free.centred.relative_excess]).all()


def test_above_the_collapse_threshold_no_direction_is_left():
    W, H, b = relu_layer()
    view = measure_last_layer(W, H, b, COUNTS, CrossEntropy(), 1.0, 2.0).as_trained
    assert view.threshold_ratio > 1
    assert np.isnan([view.distance, view.shape_distance]).all()
    assert view.bias_distance == pytest.approx(np.linalg.norm(b))


def test_without_a_bias():
    W, H, _ = relu_layer()
    plain = measure_last_layer(W, H, None, COUNTS, CrossEntropy(), 1.0, DECAY)
    assert np.isnan([plain.as_trained.lam_b, plain.as_trained.residual_b]).all()
    assert plain.norm_b == 0
    assert plain.centred.value > 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"factor": 0.0}, "factor must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be non-negative"),
        ({"H": np.ones((N, DIM))}, "H must have shape .*: transpose it"),
        ({"W": np.ones((K + 1, DIM))}, "W must have a row for each of the 4"),
        ({"b": np.ones(K + 1)}, "b must have shape"),
        ({"class_counts": (N,)}, "each of the 1 classes of class_counts"),
    ],
)
def test_complaints_say_what_to_change(changes, complaint):
    W, H, b = relu_layer()
    given = {
        "W": W, "H": H, "b": b, "class_counts": COUNTS, "loss": CrossEntropy(), "factor": 1.0,
        "weight_decay": DECAY,
    }  # fmt: skip
    with pytest.raises(ValueError, match=complaint):
        measure_last_layer(**given | changes)


def test_single_precision_is_refused():
    W, H, b = relu_layer()
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        measure_last_layer(W, H, b, COUNTS, CrossEntropy(), 1.0, DECAY)
