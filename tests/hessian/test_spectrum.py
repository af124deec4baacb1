"""Whole spectra by every method, against LAPACK on a Hessian assembled in NumPy."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser
from model_oracle import dense_hessian as oracle
from points import BALANCED, SKEWED, gaussian, make, origin

import ufm
from ufm import MSE, CrossEntropy, Focal, LabelSmoothing, Params, Problem, spectrum
from ufm.hessian import inertia, padded_spectrum
from ufm.hessian.products import dense
from ufm.hessian.structured import collapsed

LOSSES = (CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE(), MSE(5.0, 3.0))
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label())
# Two classes, and one sample of each, are special whatever the loss is.
SHAPES = [(loss, 4, 2, 5) for loss in LOSSES]
SHAPES += [(loss, *few) for loss in (LOSSES[0], LOSSES[3]) for few in ((2, 2, 3), (3, 1, 3))]


def eigenvalues(problem: Problem, params: Params) -> np.ndarray:
    return np.linalg.eigvalsh(oracle(problem, params))


def assert_spectrum(found, expected: np.ndarray) -> None:
    """Every eigenvalue to 1e-9 of the largest, every multiplicity, and what follows from them."""
    assert found.complete
    assert found.dimension == len(expected)
    assert found.multiplicities.dtype == np.int64
    assert len(found.labels) == len(found.eigenvalues) == len(found.residuals)
    assert not any("," in label for label in found.labels)
    assert np.all(np.diff(found.eigenvalues) > 0)
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(found.expand(), expected, rtol=0, atol=1e-9 * scale)
    errors = np.abs(found.expand() - expected)
    assert np.all(errors <= np.repeat(found.residuals, found.multiplicities) + 1e-14 * scale)
    assert found.trace == pytest.approx(expected.sum(), rel=1e-11)
    assert found.frobenius == pytest.approx(np.linalg.norm(expected), rel=1e-11)
    clear = 1e-13 * len(expected) * scale
    assert found.negative == np.sum(expected < -clear)
    assert found.positive == np.sum(expected > clear)


def at_origin(problem: Problem) -> Params:
    """W = H = 0 with the bias that is best there, by the formula of squared errors."""
    loss, classes = problem.loss, problem.num_classes
    level = 0.0
    if isinstance(loss, MSE) and problem.has_bias:
        decay = classes * float(problem.lam_b or 0.0)
        level = loss.scale * loss.target / (loss.scale + classes - 1 + decay)
    return origin(problem, jnp.full(classes, level))


@pytest.mark.repeats
@pytest.mark.parametrize(("loss", "classes", "per_class", "dim"), SHAPES)
def test_all_methods_agree_at_minima_and_at_the_origin(loss, classes, per_class, dim):
    for lam_b, place in itertools.product((None, 0.0, 1e-2, 1.0), ("minimum", "origin")):
        problem = make(loss, (per_class,) * classes, lam_b, dim=dim)
        point = at_origin(problem)
        if place == "minimum":
            point = ufm.global_minimum(problem).params(jax.random.key(1))
        expected = eigenvalues(problem, point)
        found = {"closed_form": spectrum(problem, at=place)}
        for method in ("closed_form", "collapsed", "dense"):
            found[f"{method} of the point"] = spectrum(problem, point, method)
        for result in found.values():
            assert_spectrum(result, expected)
        assert len({x.gauge_dimension for x in found.values()}) == 1
        assert len({x.definite_modulo_gauge for x in found.values()}) == 1
        assert np.array_equal(
            found["closed_form"].eigenvalues, found["closed_form of the point"].eigenvalues
        )


@pytest.mark.parametrize("mu", [1e-2, 1e-5, 1e-8])
def test_small_decays_keep_their_multiplicities(mu):
    # λ_H = μ/2 is far below the largest eigenvalue, and still not a zero.
    for loss, lam_b in itertools.product((CrossEntropy(), MSE()), (None, 1e-2)):
        problem = make(loss, (2,) * 4, lam_b, mu=mu, dim=5)
        point = ufm.global_minimum(problem).params(jax.random.key(0))
        for found in (spectrum(problem), spectrum(problem, point)):
            assert_spectrum(found, eigenvalues(problem, point))
            assert found.zero == found.gauge_dimension
            assert found.definite_modulo_gauge


@every_loss
def test_collapsed_points_that_are_no_minima(loss):
    rng = np.random.default_rng(0)
    for counts, weights in [((4, 2, 1), None), ((2, 2, 2), None), ((4, 2, 1), True)]:
        for lam_b, rank in itertools.product((None, 1e-2), (1, 2, 5)):
            dim = 5
            column_weights = None
            if weights:
                column_weights = jnp.asarray(rng.uniform(0.5, 3.0, sum(counts)))
            problem = Problem(loss, counts, dim, 2e-2, 5e-3, lam_b, column_weights)
            basis = np.linalg.qr(rng.normal(size=(dim, rank)))[0]
            means = basis @ rng.normal(size=(rank, 3))
            H = np.repeat(means, counts, axis=1)
            if weights:
                H = H * np.sqrt(np.asarray(column_weights))
            bias = None if lam_b is None else jnp.asarray(rng.normal(size=3))
            point = Params(jnp.asarray(rng.normal(size=(3, rank)) @ basis.T), jnp.asarray(H), bias)
            found = spectrum(problem, point, "collapsed")
            assert_spectrum(found, eigenvalues(problem, point))


def test_collapsed_at_the_minimum_of_skewed_classes():
    for lam_b in (None, 0.0, 1e-2):
        problem = make(CrossEntropy(), SKEWED, lam_b)
        point = minimiser(problem)
        found = spectrum(problem, point)
        assert found.method == "collapsed"
        assert_spectrum(found, eigenvalues(problem, point))
        assert found.zero == found.gauge_dimension == 5 + (lam_b == 0.0)
        assert found.definite_modulo_gauge


def test_dense_at_any_point():
    problem = make(Focal(3.0), SKEWED, 1e-2)
    point = gaussian(problem, 0, 1.0)
    found = spectrum(problem, point)
    assert found.method == "dense"
    assert_spectrum(found, eigenvalues(problem, point))
    # The gradient turns with the point: what is less far below 0 could be that.
    assert found.eigenvalues[0] > -found.gauge_residual
    assert found.definite_modulo_gauge is None
    # What is further below 0 could not.
    clear = dataclasses.replace(found, gauge_residual=-0.9 * found.eigenvalues[0])
    assert clear.definite_modulo_gauge is False
    np.testing.assert_allclose(
        ufm.dense_hessian(problem, point), oracle(problem, point), rtol=0, atol=1e-13
    )


def test_residuals_say_how_far_a_nearly_collapsed_point_is_off():
    problem = make(CrossEntropy(), BALANCED, None)
    point = minimiser(problem)
    for noise in (1e-9, 1e-8, 2e-7):
        near = jax.tree.map(
            lambda x, noise=noise: x + noise * jnp.cos(jnp.arange(x.size * 1.0).reshape(x.shape)),
            point,
        )
        found = spectrum(problem, near, "collapsed")
        error = np.abs(found.expand() - eigenvalues(problem, near))
        assert np.all(error <= np.repeat(found.residuals, found.multiplicities))
        assert np.max(found.residuals) < 1e3 * noise


# The table of the theory, and sizes that nothing else can check ----------------------------------


def test_the_table_of_multiplicities_at_the_simplex():
    K, n, d, lam_w, lam_h = 5, 7, 9, 3e-3, 1e-3
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=K, per_class=n, dim=d, lam_w=lam_w, lam_h=lam_h, lam_b=1e-2
    )
    found = dict(
        zip(
            np.round(spectrum(problem).eigenvalues, 12),
            spectrum(problem).multiplicities,
            strict=True,
        )
    )
    outside = (K - 1) * (d - K + 1)
    assert found[0.0] == outside + (K - 1) * (K - 2) // 2
    assert found[lam_w + lam_h] >= outside
    assert found[lam_w] >= d - K + 1
    assert found[lam_h] >= (K * n - K + 1) * (d - K + 1)
    p = np.exp(float(ufm.global_minimum(problem).rho))
    p_label, q = p / (p + K - 1), 1 / (p + K - 1)
    s2 = (lam_h / lam_w) ** 0.5 * float(ufm.global_minimum(problem).rho) * n**0.5
    chi1, chi2 = K * p_label * q / (K * n), q / (K * n)
    assert found[np.round(lam_h + s2 * chi1, 12)] == K * (n - 1)
    assert found[np.round(lam_h + s2 * chi2, 12)] == K * (n - 1) * (K - 2)


def exact_trace_and_square(problem: Problem) -> tuple[float, float]:
    """tr ∇²f and ‖∇²f‖²_F at the minimum from its blocks, class by class, in NumPy.

    With J = [I ⊗ hᵀ, W, I] the blocks are sums and products of S_k, W, h and G alone.
    """
    small = Problem.balanced(
        loss=problem.loss, num_classes=problem.num_classes, per_class=1, dim=problem.dim,
        lam_w=problem.lam_w, lam_h=problem.lam_h, lam_b=problem.lam_b,
    )  # fmt: skip
    K, d, n = problem.num_classes, problem.dim, problem.per_class
    N, lam_w, lam_h = K * n, float(problem.lam_w), float(problem.lam_h)
    minimum = ufm.global_minimum(problem)
    rho, b = float(minimum.rho), float(minimum.bias_level)
    basis = np.linalg.svd(np.eye(K) - 1 / K)[0][:, : K - 1]
    M = np.zeros((K, d))
    M[:, : K - 1] = basis
    s = ((lam_h / lam_w) ** 0.5 * rho * n**0.5) ** 0.5
    W, H = s * M, rho / s * M.T
    trace = K * d * lam_w + d * N * lam_h + K * float(problem.lam_b)
    of_w, of_b, w_b = lam_w * np.eye(K * d), float(problem.lam_b) * np.eye(K), np.zeros((K * d, K))
    square = 0.0
    for k in range(K):
        v = W @ H[:, k] + b
        S = np.asarray(small.loss.hessian(jnp.asarray(v), k)) / N
        g = np.asarray(small.loss.gradient(jnp.asarray(v), k)) / N
        J = np.kron(np.eye(K), H[:, k][None, :])
        block = W.T @ S @ W
        trace += n * (np.trace(block) + np.trace(S) * (1 + H[:, k] @ H[:, k]))
        of_w = of_w + n * J.T @ S @ J
        of_b = of_b + n * S
        w_b = w_b + n * J.T @ S
        h_w = J.T @ S @ W + np.kron(g[:, None], np.eye(d))
        square += n * np.sum((lam_h * np.eye(d) + block) ** 2)
        square += 2 * n * (np.sum(h_w**2) + np.sum((S @ W) ** 2))
    square += np.sum(of_w**2) + np.sum(of_b**2) + 2 * np.sum(w_b**2)
    return trace, square


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(3.0)], ids=lambda loss: loss.label())
def test_trace_and_norm_are_the_exact_ones(loss):
    problem = Problem.balanced(
        loss=loss, num_classes=8, per_class=500, dim=20, lam_w=1e-3, lam_h=2e-4, lam_b=1e-2
    )
    trace, square = exact_trace_and_square(problem)
    found = spectrum(problem)
    assert found.complete
    assert found.trace == pytest.approx(trace, rel=1e-11)
    assert found.frobenius == pytest.approx(square**0.5, rel=1e-11)


def test_billions_of_parameters():
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=1000, per_class=1300, dim=2048,
        lam_w=5e-6, lam_h=5e-6, lam_b=1e-2,
    )  # fmt: skip
    found = spectrum(problem)
    assert found.complete
    assert found.multiplicities.sum() == problem.num_parameters == 2_664_449_000
    assert found.zero == found.gauge_dimension == 999 * 1049 + 999 * 998 // 2
    assert found.definite_modulo_gauge


# What is separated, and what is refused -----------------------------------------------------------


def test_zeros_that_no_rotation_explains_are_told_apart():
    # At the threshold of collapse σ(G) = μ at the origin: (K−1)d flat directions, no rotation.
    K, n, d = 4, 2, 5
    mu = 1 / (K * n**0.5)
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=K, per_class=n, dim=d, lam_w=mu, lam_h=mu, lam_b=None
    )
    found = spectrum(problem, at="origin")
    assert (found.negative, found.zero, found.gauge_dimension) == (0, (K - 1) * d, 0)
    assert found.true_zeros == (K - 1) * d
    assert found.definite_modulo_gauge is False


def test_a_saddle_is_not_definite():
    problem = make(CrossEntropy(), BALANCED, None)
    found = spectrum(problem, origin(problem))
    assert found.negative == 2 * problem.dim
    assert found.definite_modulo_gauge is False


def unsure(counts):
    return dataclasses.replace(counts, reliable=False)


def test_what_is_too_large_for_a_matrix_gets_its_ends_and_its_counts(monkeypatch):
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    point = minimiser(problem)
    expected = eigenvalues(problem, point)
    monkeypatch.setattr(collapsed, "LARGEST", 12)
    found = spectrum(problem, point)
    assert not found.complete
    assert "dimensions" in found.note
    assert (found.negative, found.zero, found.positive) == (0, 5, len(expected) - 5)
    assert found.definite_modulo_gauge
    assert found.eigenvalues[-1] == pytest.approx(expected[-1], rel=1e-8)
    # Counts that rounding decides are none.
    monkeypatch.setattr("ufm.hessian.counts.inertia.inertia", lambda *args: unsure(inertia(*args)))
    assert spectrum(problem, point).counted is None
    monkeypatch.setattr(dense, "LARGEST", 12)
    with pytest.raises(ValueError, match=r"43 dimensions: as a matrix it would need 0\.0 GB"):
        spectrum(problem, point, "dense")


def test_lanczos_is_never_complete_and_counts_exactly():
    problem = make(MSE(5.0, 3.0), (2,) * 4, 1e-2, dim=5)
    for point in (ufm.global_minimum(problem).params(jax.random.key(2)), gaussian(problem, 1, 1.0)):
        found, expected = spectrum(problem, point, "lanczos", count=4), eigenvalues(problem, point)
        assert not found.complete
        assert found.negative == np.sum(expected < -found.zero_tol)
        assert found.positive == np.sum(expected > found.zero_tol)
        known = expected[np.abs(expected) > 1e-9]
        np.testing.assert_allclose(found.expand()[-4:], known[-4:], rtol=1e-8)
        assert found.eigenvalues[0] == pytest.approx(min(expected[0], 0.0), abs=1e-9)


@pytest.mark.parametrize(
    ("problem", "arguments", "message"),
    [
        (make(CrossEntropy(), SKEWED), {"method": "closed_form"}, "balanced, unweighted classes"),
        (make(CrossEntropy(), dim=1), {"method": "closed_form"}, "rank 2, more than dim=1"),
        (
            make(CrossEntropy()),
            {"method": "eigen"},
            "one of auto, closed_form, collapsed, dense, lanczos",
        ),
        (make(CrossEntropy()), {"at": "saddle"}, "at must be one of minimum, origin, frame"),
        (make(CrossEntropy()), {"cluster_tol": -1.0}, "cluster_tol must be non-negative"),
        (Problem(CrossEntropy(), BALANCED, 4, 0.0, 1e-2, None), {}, "lam_w or lam_h = 0"),
    ],
)
def test_what_has_no_spectrum_is_refused(problem, arguments, message):
    with pytest.raises(ValueError, match=message):
        spectrum(problem, **arguments)


def test_points_that_a_method_does_not_apply_to_are_refused():
    problem = make(CrossEntropy())
    point = gaussian(problem, 0, 1.0)
    with pytest.raises(ValueError, match="not collapsed: features differ"):
        spectrum(problem, point, "collapsed")
    with pytest.raises(ValueError, match="not the symmetric minimum, the origin or the frame"):
        spectrum(problem, point, "closed_form")
    shifted = at_origin(problem)
    shifted = Params(shifted.W.at[0, 0].set(0.5), shifted.H, shifted.b)
    with pytest.raises(ValueError, match="not the symmetric minimum, the origin or the frame"):
        spectrum(problem, shifted, "closed_form")
    with pytest.raises(ValueError, match="not finite"):
        spectrum(problem, Params(point.W.at[0, 0].set(jnp.inf), point.H, None))
    with pytest.raises(ValueError, match=r"W must have shape \(3, 4\)"):
        spectrum(problem, Params(point.W[:, :2], point.H[:2], None))


def test_a_point_that_is_zero_in_further_dimensions():
    """Neither collapsed nor critical: the rest is in closed form all the same."""
    small = make(Focal(2.0), lam_b=1e-2, dim=3)
    large = dataclasses.replace(small, dim=5)
    point = gaussian(small, 0, 1.0)
    padded = Params(jnp.pad(point.W, ((0, 0), (0, 2))), jnp.pad(point.H, ((0, 2), (0, 0))), point.b)
    found = padded_spectrum(large, small, point)
    dense = np.linalg.eigvalsh(oracle(large, padded))
    assert found.complete
    np.testing.assert_allclose(found.expand(), dense, atol=1e-13)
