"""Certificates on norm sets: no bound above f*, global minima, saddles, and undecided points."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from norm_oracle import random_point, value
from norm_problems import make

import ufm
from ufm.certificates.certificate import Reason
from ufm.variants.norms.tangent_space import tangent_eigenpairs

KEY = jax.random.key(0)
CE, FL = ufm.CrossEntropy(), ufm.Focal(3.0)
SKEWED = (4, 2, 1)


@pytest.mark.parametrize(
    ("name", "loss", "lam_b"),
    [
        ("sphere, sphere", CE, None),
        ("ball, ball", ufm.MSE(), 0.0),
        ("decay, sphere", CE, 0.0),
        ("budget, ball", ufm.LabelSmoothing(0.1), 1e-2),
        ("budget, decay", CE, 1e-2),
        ("sphere, budget", ufm.MSE(), 1e-2),
    ],
)
def test_no_bound_is_above_the_minimum(name, loss, lam_b, full):
    """The six combinations use every formula for S and every term of the bias."""
    problem = make(name, loss, SKEWED, lam_b=lam_b)
    run = ufm.solve(problem, ufm.init_params(problem, KEY))
    best = value(problem, run.params)
    rng = np.random.default_rng(0)
    points = [random_point(problem, rng) for _ in range(40 if full else 10)]
    found = [ufm.certify(problem, point) for point in points]
    for point, each in zip(points, found, strict=True):
        assert float(each.value) == pytest.approx(value(problem, point), rel=1e-12)
        assert float(each.lower_bound) <= best + 1e-15
        assert each.verdict is not ufm.Verdict.GLOBAL_MINIMUM
    # Bounds of random points say something, and that of the run is sharp.
    assert max(float(each.lower_bound) for each in found) > -20.0
    own = ufm.certify(problem, run.params)
    assert own.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(own.lower_bound) <= best
    assert float(own.gap) < 1e-9
    if loss == CE:
        assert float(own.dual_norm) == pytest.approx(float(own.threshold), abs=1e-7)


def test_the_gap_of_two_spheres_is_within_that_of_the_shifted_matrix():
    """At least as good as f − f* ≤ ½ (K + N)(−λ_min(M))₊, from the dense matrix of all samples."""
    problem = make("sphere, sphere", CE, SKEWED, tau=0.7)
    run = ufm.solve(problem, ufm.init_params(problem, KEY))
    for size in (1e-3, 1e-5):
        rng = np.random.default_rng(1)
        noisy = jax.tree.map(
            lambda x, s=size, r=rng: x + s * jnp.asarray(r.standard_normal(x.shape)), run.params
        )
        W = np.asarray(noisy.W / jnp.linalg.norm(noisy.W, axis=1, keepdims=True))
        H = np.asarray(noisy.H / jnp.linalg.norm(noisy.H, axis=0, keepdims=True))
        V = W @ H / 0.7
        p = np.exp(V) / np.exp(V).sum(axis=0)
        G = (p - np.eye(3)[:, problem.labels]) / (0.7 * 7)
        a, beta = -np.sum(W * (G @ H.T), axis=1), -np.sum(H * (W.T @ G), axis=0)
        M = np.block([[np.diag(a), G], [G.T, np.diag(beta)]])
        shifted = 0.5 * 10 * max(0.0, -np.linalg.eigvalsh(M)[0])
        point = ufm.Params(jnp.asarray(W), jnp.asarray(H), None)
        found = ufm.certify(problem, point)
        assert value(problem, point) - float(run.value) <= float(found.gap) <= 1.5 * shifted


def test_rows_and_features_all_equal_are_a_saddle_of_the_known_index():
    """M has K−1 negative eigenvalues there, each once for every tangent direction: (K−1)(d−1)."""
    problem = make("sphere, sphere", CE, (2, 2, 2), dim=4)
    e = jnp.eye(4)[0]
    point = ufm.Params(jnp.tile(e, (3, 1)), jnp.tile(e[:, None], (1, 6)), None)
    found = ufm.certify(problem, point)
    assert found.verdict is ufm.Verdict.STRICT_SADDLE
    assert float(found.dual_norm) > 1.0
    assert "curvature" in found.explain()
    counts = ufm.inertia(problem, point)
    assert counts.negative == 2 * 3
    # The direction descends, at the curvature that is claimed.
    step = jax.tree.map(lambda x: 1e-2 * x, found.escape.direction)
    along = ufm.Params(point.W + step.W, point.H + step.H, None)
    W = along.W / jnp.linalg.norm(along.W, axis=1, keepdims=True)
    H = along.H / jnp.linalg.norm(along.H, axis=0, keepdims=True)
    fall = value(problem, ufm.Params(W, H, None)) - value(problem, point)
    assert fall == pytest.approx(0.5e-4 * float(found.escape.curvature), rel=1e-2)
    assert float(found.escape.curvature) == pytest.approx(float(found.escape.predicted), rel=1e-9)


def test_a_saddle_without_unused_dimensions_is_found_on_the_tangent_space():
    """Three classes in the plane: the minimum with all features turned to the opposite side."""
    problem = make("sphere, sphere", CE, (1, 1, 1), dim=2, tau=1.0)
    minimum = ufm.global_minimum(problem).params(KEY)
    maximum = ufm.Params(minimum.W, -minimum.H, None)
    assert np.linalg.matrix_rank(maximum.W) == 2
    found = ufm.certify(problem, maximum)
    assert float(found.grad_norm) < 1e-14
    assert found.verdict is ufm.Verdict.STRICT_SADDLE
    lowest = tangent_eigenpairs(problem, maximum)[0][0]
    assert float(found.escape.curvature) == pytest.approx(lowest, rel=1e-9)
    image = ufm.hvp(problem, maximum, found.escape.direction)
    pairs = zip(jax.tree.leaves(image), jax.tree.leaves(found.escape.direction), strict=True)
    assert sum(float(jnp.sum(x * y)) for x, y in pairs) == pytest.approx(lowest, rel=1e-9)


def test_points_between_are_not_critical_and_infeasible_ones_are_refused():
    problem = make("sphere, sphere", CE, SKEWED)
    start = ufm.init_params(problem, KEY)
    found = ufm.certify(problem, start)
    assert found.verdict is ufm.Verdict.NOT_CRITICAL
    assert "tangent space" in found.explain()
    with pytest.raises(ValueError, match=r"params\.W is not in the set classifier=Sphere"):
        ufm.certify(problem, dataclasses.replace(start, W=1.01 * start.W))
    with pytest.raises(ValueError, match="tol must be"):
        ufm.certify(problem, start, tol=-1.0)


def test_single_precision_claims_only_what_it_resolves():
    problem = make("ball, ball", CE, SKEWED)
    run = ufm.solve(problem, ufm.init_params(problem, KEY))
    single = jax.tree.map(lambda x: x.astype(jnp.float32), run.params)
    tight = ufm.certify(problem, single)
    assert tight.verdict is not ufm.Verdict.GLOBAL_MINIMUM
    assert float(tight.lower_bound) <= float(run.value)
    loose = ufm.certify(problem, single, tol=1e-2)
    assert loose.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(loose.gap) > float(tight.value) - float(run.value)


def test_the_focal_loss_is_proven_where_a_scalar_decides_and_on_its_convex_region_elsewhere():
    balanced = make("sphere, ball", FL, (2, 2, 2))
    run = ufm.solve(balanced, ufm.init_params(balanced, KEY))
    assert ufm.certify(balanced, run.params).verdict is ufm.Verdict.GLOBAL_MINIMUM
    skewed = make("sphere, ball", FL, SKEWED)
    run = ufm.solve(skewed, ufm.init_params(skewed, KEY))
    found = ufm.certify(skewed, run.params)
    assert found.verdict is ufm.Verdict.MINIMUM_ON_CONVEX_REGION
    assert float(found.lower_bound) <= 0.0  # inf L is all that is known of f elsewhere


def test_without_a_bound_on_the_bias_it_says_so():
    problem = make("sphere, sphere", ufm.BinaryCrossEntropy(), (2, 2, 2), lam_b=0.0)
    run = ufm.solve(problem, ufm.init_params(problem, KEY))
    found = ufm.certify(problem, run.params)
    assert found.verdict is not ufm.Verdict.GLOBAL_MINIMUM
    assert found.reason in (Reason.ALL_CURVATURES_POSITIVE, Reason.BIAS_UNBOUNDED, Reason.GAP_OPEN)
    decayed = dataclasses.replace(problem, lam_b=1e-2)
    run = ufm.solve(decayed, ufm.init_params(decayed, KEY))
    assert ufm.certify(decayed, run.params).verdict is ufm.Verdict.GLOBAL_MINIMUM


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_rounding_along_a_rotation_is_no_way_down(tau):
    """At the square along the axes gradients are exactly 0, and that of a rotation rounds below."""
    problem = make("sphere, sphere", CE, (1, 1, 1, 1), dim=2, tau=tau)
    axes = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    square = ufm.Params(jnp.asarray(axes), jnp.asarray(axes.T), None)
    found = ufm.certify(problem, square)
    assert float(found.grad_norm) == 0.0
    assert found.verdict is ufm.Verdict.LOCAL_MINIMUM
    rng, here = np.random.default_rng(0), value(problem, square)
    for size in (1e-3, 1e-2):
        for _ in range(300):
            W, H = (x + size * rng.standard_normal(x.shape) for x in (axes, axes.T))
            W /= np.linalg.norm(W, axis=1, keepdims=True)
            H /= np.linalg.norm(H, axis=0)
            assert value(problem, ufm.Params(jnp.asarray(W), jnp.asarray(H), None)) > here
