"""Simplex frames and NC1–NC4 against plain NumPy, exact solutions and hand-made points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ufm import (
    MSE,
    collapse_threshold,
    compare_geometry,
    global_minimum,
    nearest_minimiser,
)
from ufm.collapse.metrics import (
    class_means,
    nc_metrics,
    orthonormal_columns,
    simplex_basis,
    simplex_etf,
)
from ufm.losses import CrossEntropy, Focal
from ufm.model.problem import Params, Problem
from ufm.model.start import init_params

DIM = 4
WEIGHTS = np.array([1.0, 3.0, 2.0, 1.0, 4.0, 2.0])
NAMES = ("nc1", "nc2", "nc3", "nc4", "within_between_ratio")


def make(counts=(2, 2, 2), dim=DIM, lam_b=None, weights=None) -> Problem:
    weights = None if weights is None else jnp.asarray(weights)
    return Problem(CrossEntropy(), counts, dim, 1e-3, 1e-3, lam_b, weights)


def point(problem: Problem, seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    shapes = [(problem.num_classes, problem.dim), (problem.dim, problem.num_columns)]
    W, H = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)
    return Params(W, H, jnp.asarray(rng.normal(size=shapes[0][0])) if problem.has_bias else None)


def measured(problem: Problem, params: Params) -> dict[str, float]:
    metrics = nc_metrics(problem, params)
    return {name: float(getattr(metrics, name)) for name in NAMES}


def plain_metrics(problem: Problem, params: Params) -> dict[str, float]:
    """The definitions, sample by sample; the pseudo-inverse from the eigenvalues of Σ_B."""
    W, H, classes = np.asarray(params.W), np.asarray(params.H), problem.num_classes
    b = np.zeros(classes) if params.b is None else np.asarray(params.b)
    c = np.ones(H.shape[1])
    if problem.column_weights is not None:
        c = np.asarray(problem.column_weights)
    h, k, total = H / np.sqrt(c), problem.labels, np.sum(c)
    means = np.stack([h[:, k == j] @ c[k == j] / np.sum(c[k == j]) for j in range(classes)], axis=1)
    centred = means - (h @ c / total)[:, None]
    within = sum(
        ci * np.outer(hi - means[:, ki], hi - means[:, ki])
        for ci, hi, ki in zip(c, h.T, k, strict=True)
    )
    within, between = within / total, centred @ centred.T / classes
    frame = (np.eye(classes) - 1 / classes) / np.sqrt(classes - 1)
    differ = [
        np.argmax(W @ hi + b) != np.argmin(np.sum((means - hi[:, None]) ** 2, axis=0)) for hi in h.T
    ]

    def angle(matrix):
        return np.linalg.norm(matrix / np.linalg.norm(matrix) - frame)

    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    return {
        "nc1": np.trace(within @ inverse) / classes,
        "nc2": angle(W @ W.T),
        "nc3": angle(W @ centred),
        "nc4": c @ np.array(differ, float) / total,
        "within_between_ratio": np.trace(within) / np.trace(between),
    }


# Frames -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (3, 4), (10, 9)])
def test_a_simplex_frame_has_unit_vectors_at_equal_angles(classes, dim):
    frame = np.asarray(simplex_etf(jax.random.key(0), classes, dim))
    assert frame.shape == (classes, dim)
    gram = np.full((classes, classes), -1 / (classes - 1))
    np.fill_diagonal(gram, 1.0)
    np.testing.assert_allclose(frame @ frame.T, gram, atol=1e-14)
    np.testing.assert_allclose(np.sum(frame, axis=0), 0.0, atol=1e-14)


def test_the_orientation_of_a_frame_is_the_keys():
    frames = [np.asarray(simplex_etf(jax.random.key(s), 3, 4)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert np.max(np.abs(frames[0] - frames[2])) > 0.1


def test_orthonormal_columns_are_uniformly_random():
    keys = jax.random.split(jax.random.key(0), 400)
    columns = np.asarray(jax.vmap(lambda key: orthonormal_columns(key, 4, 2))(keys))
    gram = np.swapaxes(columns, 1, 2) @ columns
    np.testing.assert_allclose(gram, np.tile(np.eye(2), (400, 1, 1)), atol=1e-14)
    # Entries of a uniform unit vector in four dimensions: mean 0 and mean square 1/4. The means of
    # 400 are known to 0.025 and 0.01.
    np.testing.assert_allclose(np.mean(columns, axis=0), 0.0, atol=0.1)
    np.testing.assert_allclose(np.mean(columns**2, axis=0), 0.25, atol=0.04)


def test_there_is_no_simplex_frame_in_too_few_dimensions():
    with pytest.raises(ValueError, match="10 vectors form a simplex ETF only in dimension 9"):
        simplex_etf(jax.random.key(0), 10, 8)


def test_the_simplex_basis_is_orthonormal_and_centred():
    basis = simplex_basis(5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-15)
    np.testing.assert_allclose(basis @ basis.T, np.eye(5) - 0.2, atol=1e-15)


# Metrics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [
        make(),
        make(lam_b=1e-2),
        make((3, 2, 1)),
        make((3, 2, 1), lam_b=0.0, weights=WEIGHTS),
        make((2, 2, 2, 2, 2), dim=2),  # d < K − 1: Σ_B has rank d
    ],
    ids=["balanced", "bias", "imbalanced", "weighted", "few dimensions"],
)
def test_metrics_are_their_definitions(problem):
    for seed in range(5):
        params = point(problem, seed)
        found, truth = measured(problem, params), plain_metrics(problem, params)
        assert found == pytest.approx(truth, rel=1e-11, abs=0)


def test_a_weighted_column_counts_as_often_as_it_stands_for():
    weighted = make((3, 2, 1), weights=WEIGHTS, lam_b=0.0)
    counts = tuple(int(n) for n in np.bincount(weighted.labels, weights=WEIGHTS))
    repeated = make(counts, lam_b=0.0)
    for seed in range(5):
        params = point(weighted, seed)
        h = np.repeat(np.asarray(params.H) / np.sqrt(WEIGHTS), WEIGHTS.astype(int), axis=1)
        spread = Params(params.W, jnp.asarray(h), params.b)
        assert measured(weighted, params) == pytest.approx(
            measured(repeated, spread), rel=1e-11, abs=0
        )
        means = class_means(repeated, spread)
        np.testing.assert_allclose(class_means(weighted, params), means, rtol=1e-13)


def test_metrics_do_not_change_under_rotation():
    problem = make((3, 2, 1), lam_b=0.0)
    params = point(problem)
    turn = jnp.asarray(np.linalg.qr(np.random.default_rng(5).normal(size=(DIM, DIM)))[0])
    turned = Params(params.W @ turn, turn.T @ params.H, params.b)
    assert measured(problem, turned) == pytest.approx(measured(problem, params), rel=1e-11, abs=0)


def collapsed(rows: np.ndarray, stretch: float = 0.3) -> Params:
    """Two samples at each of the class means that are parallel to the classifier's rows."""
    return Params(jnp.asarray(rows), jnp.asarray(np.repeat(stretch * rows.T, 2, axis=1)), None)


def test_collapsed_solutions_have_metrics_zero():
    frame = np.asarray(simplex_etf(jax.random.key(0), 3, DIM))
    found = measured(make(), collapsed(2.0 * frame))
    assert found == pytest.approx(dict.fromkeys(NAMES, 0.0), abs=1e-14)


def test_an_orthogonal_frame_is_no_simplex_frame_but_is_aligned():
    # The minimum of squared error without bias: the right answer for NC2 is not 0.
    found = measured(make(), collapsed(np.eye(3, DIM)))
    truth = dict.fromkeys(NAMES, 0.0) | {"nc2": (2 - 2 * (2 / 3) ** 0.5) ** 0.5}
    assert found == pytest.approx(truth, abs=1e-14)


def test_metrics_map_over_a_batch():
    problem = make()
    batch = jax.tree.map(lambda *x: jnp.stack(x), *(point(problem, s) for s in range(3)))
    mapped = jax.vmap(lambda p: nc_metrics(problem, p))(batch)
    for seed in range(3):
        found = {name: float(getattr(mapped, name)[seed]) for name in NAMES}
        assert found == pytest.approx(measured(problem, point(problem, seed)), rel=1e-11, abs=0)


def test_what_runs_once_on_the_host_compiles_nothing():
    compiled, key = [], jax.random.key(0)

    def listen(event: str, *_: object, **__: object) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for loss, counts in ((CrossEntropy(), (2, 2, 2)), (Focal(1.0), (3,) * 7), (MSE(), (5, 5))):
            problem = Problem(loss, counts, len(counts), 1e-3, 1e-3, 1e-2)
            start = init_params(problem, key)
            nc_metrics(problem, start)
            nearest_minimiser(problem, start)
            compare_geometry(problem, start, global_minimum(problem))
            collapse_threshold(problem)
        assert not compiled
        jax.block_until_ready(jax.jit(lambda x: x + 3.25)(1.5))
        assert compiled  # a compilation would have been seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_metrics_on_the_host_are_those_of_the_program():
    for problem in (make(lam_b=1e-2), make((3, 2, 1), lam_b=0.0, weights=WEIGHTS)):
        params = point(problem)
        program = jax.jit(lambda p, problem=problem: nc_metrics(problem, p))(params)
        found = {name: float(getattr(program, name)) for name in NAMES}
        assert found == pytest.approx(measured(problem, params), rel=1e-11, abs=0)


def test_metrics_are_nan_where_they_are_undefined():
    problem = make(lam_b=0.0)
    W, H = (np.asarray(x) for x in jax.tree.leaves(point(problem))[:2])
    level = np.array([1.0, 0.0, 0.0])
    cases = [
        (0 * W, 0 * H, 0 * level, set(NAMES)),  # the origin
        (0 * W, H, 0 * level, {"nc2", "nc3", "nc4"}),  # no direction, no prediction
        (0 * W, H, level, {"nc2", "nc3"}),  # always the first class
        (W, 0 * H, level, {"nc1", "nc3", "nc4", "within_between_ratio"}),
    ]
    for w, h, b, undefined in cases:
        found = measured(problem, Params(*(jnp.asarray(x) for x in (w, h, b))))
        assert {name for name, value in found.items() if np.isnan(value)} == undefined


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_metrics_are_nan_where_all_class_means_coincide(dtype):
    # A third of (x + x + x) may not be x: differences of the means are rounding, and mean nothing.
    problem = make((3, 2, 1))
    W = point(problem).W.astype(dtype)
    for seed in range(6):
        column = np.random.default_rng(seed).normal(size=(DIM, 1))
        found = measured(problem, Params(W, jnp.asarray(np.tile(column, 6), dtype), None))
        for name in ("nc1", "nc3", "nc4", "within_between_ratio"):
            assert np.isnan(found[name]), name


# Rounding -----------------------------------------------------------------------------------------


def nearly_collapsed(noise: float, offset: float):
    """Ten classes of twenty samples in 64 dimensions, in float32, and the truth in float64.

    The common offset is orthogonal to the classifier, which does not see it.
    """
    rng = np.random.default_rng(0)
    frame = np.zeros((10, 64))
    frame[:, 1:10] = simplex_basis(10) * (10 / 9) ** 0.5
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    h = np.repeat(frame.T, 20, axis=1) + noise * rng.normal(size=(64, 200))
    h[0] += offset
    frame, h = frame @ turn, turn.T @ h
    params = Params(jnp.asarray(frame, jnp.float32), jnp.asarray(h, jnp.float32), None)
    problem = make((20,) * 10, dim=64)
    return problem, params, plain_metrics(problem, jax.tree.map(np.float64, params))


def test_nc1_in_single_precision_is_near_the_truth_where_a_default_pseudo_inverse_is_not():
    problem, params, truth = nearly_collapsed(noise=1e-4, offset=0.0)
    found = nc_metrics(problem, params)
    assert found.nc1.dtype == jnp.float32
    # Deviations of 1e-4 from features of 1: known to 6e-4.
    for name in ("nc1", "within_between_ratio"):
        assert float(getattr(found, name)) == pytest.approx(truth[name], rel=2e-3, abs=0)
    means = np.asarray(class_means(problem, params))
    centred, noise = means - means.mean(axis=1, keepdims=True), params.H - np.repeat(means, 20, 1)
    naive = np.trace(noise @ noise.T / 200 @ np.linalg.pinv(centred @ centred.T / 10)) / 10
    assert abs(naive - truth["nc1"]) > truth["nc1"]


@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-5, 1e-2, 1.0])
def test_nc1_is_never_negative_in_single_precision(noise):
    problem, params, _ = nearly_collapsed(noise, offset=0.0)
    assert float(nc_metrics(problem, params).nc1) >= 0


def test_nearest_means_in_single_precision_survive_a_common_offset():
    # Class means 1.5 apart, 2000 from the origin: squares of distances to it are known to 0.5.
    problem, params, truth = nearly_collapsed(noise=0.05, offset=2000.0)
    found = nc_metrics(problem, params)
    assert truth["nc4"] == float(found.nc4) == 0.0
    assert float(found.nc1) == pytest.approx(truth["nc1"], rel=1e-2, abs=0)


# Nearest class means ------------------------------------------------------------------------------


def test_nc4_counts_the_samples_that_the_classifier_sends_elsewhere():
    # Means (±1, 0), (0, 3); the classifier calls everything with x > 0 class 0, the rest class 1.
    h = np.array([[2.0, 0.0, -1.0, -1.0, 0.1, -0.1], [0.0, 0.0, 0.5, -0.5, 3.0, 3.0]])
    W = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    # Column 1 ties at logit 0: argmax takes class 0, and means 0 and 1 are equally near (argmin 0).
    plain = make(dim=2)
    found = nc_metrics(plain, Params(jnp.asarray(W), jnp.asarray(h), None))
    assert float(found.nc4) == pytest.approx(2 / 6)
    # With weights, the two of class 2 stand for 6 of 13 samples; columns are √c times features.
    weighted = make(dim=2, weights=np.array([1.0, 1.0, 3.0, 2.0, 4.0, 2.0]))
    scaled = h * np.sqrt(np.asarray(weighted.column_weights))
    found = nc_metrics(weighted, Params(jnp.asarray(W), jnp.asarray(scaled), None))
    assert float(found.nc4) == pytest.approx(6 / 13)


@pytest.mark.parametrize(("of_w", "of_h"), [(1e-160, 1e-160), (1e100, 1e-100), (1e-170, 1e140)])
def test_metrics_do_not_depend_on_the_scale_of_either_factor(of_w, of_h):
    """At the scales at which squares of entries underflow or overflow, too."""
    problem = make()
    params = init_params(problem, jax.random.key(1), scale=1.0)
    plain = nc_metrics(problem, params)
    scaled = nc_metrics(problem, Params(of_w * params.W, of_h * params.H, None))
    for name in ("nc1", "nc2", "nc3", "within_between_ratio"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), rtol=1e-12)
