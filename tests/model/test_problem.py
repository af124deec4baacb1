"""The objective, its derivatives and its rounding, against NumPy, dense matrices and 50 digits."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import loss_oracle as oracle
import numpy as np
import pytest
from mpmath import mp
from plain_model import plain_objective

from ufm._support.quick_jit import quick_jit
from ufm.hessian import hvp
from ufm.losses import MSE, CrossEntropy, Focal, LabelSmoothing
from ufm.model.evaluation import evaluated
from ufm.model.objective import objective, value_and_gradient
from ufm.model.problem import Params, Problem
from ufm.model.rounding import gradient_noise
from ufm.model.start import init_params

DIM = 4
BALANCED, IMBALANCED = (2, 2, 2), (3, 2, 1)
#: IMBALANCED's columns stand for this many samples each.
WEIGHTS = np.array([1.0, 3.0, 2.0, 1.0, 4.0, 2.0])
LOSSES = [CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE(5.0, 3.0)]
BIASES = [None, 0.0, 1e-2]
LABELLED = {"balanced": (BALANCED, None), "imbalanced": (IMBALANCED, None)}
LABELLED["weighted"] = (IMBALANCED, WEIGHTS)
every_bias = pytest.mark.parametrize("lam_b", BIASES, ids=["no bias", "free bias", "bias"])
# Every loss once, and one loss with every bias and every shape: the full product would only be more
# compilation.
every_setting = pytest.mark.parametrize(
    ("loss", "lam_b", "shape"),
    [(loss, 1e-2, "weighted") for loss in LOSSES]
    + [(LOSSES[1], lam_b, "weighted") for lam_b in (None, 0.0)]
    + [(LOSSES[1], 0.0, "imbalanced"), (LOSSES[1], None, "balanced")],
)


def make(loss=LOSSES[0], counts=BALANCED, weights=None, lam_b=1e-2, lam_w=3e-2, lam_h=2e-2):
    weights = None if weights is None else jnp.asarray(weights)
    return Problem(loss, counts, DIM, lam_w, lam_h, lam_b, weights)


def point(problem: Problem, scale: float = 1.0, seed: int = 0, dtype=np.float64) -> Params:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(scale * rng.normal(size=shape), dtype)

    W, H = draw(3, DIM), draw(DIM, problem.num_columns)
    return Params(W, H, draw(3) if problem.has_bias else None)


class Evaluated(NamedTuple):
    value: jax.Array
    objective: jax.Array
    gradient: Params
    product: Params
    grad: Params  # autodiff from here on
    jvp_of_grad: Params


@quick_jit
def evaluate(problem, params, direction) -> Evaluated:
    value, gradient = value_and_gradient(problem, params)
    grad, curved = jax.jvp(jax.grad(lambda p: objective(problem, p)), (params,), (direction,))
    product = hvp(problem, params, direction)
    return Evaluated(value, objective(problem, params), gradient, product, grad, curved)


def dot(x: Params, y: Params) -> float:
    return float(sum(jax.tree.leaves(jax.tree.map(lambda a, b: np.sum(a * b), x, y))))


@pytest.mark.repeats
@every_setting
def test_objective_is_its_formula(loss, lam_b, shape):
    problem = make(loss, *LABELLED[shape], lam_b)
    params = point(problem)
    found = evaluate(problem, params, point(problem, seed=1))
    truth = plain_objective(problem, params)
    assert float(found.value) == pytest.approx(truth, rel=1e-13, abs=0)
    assert float(found.objective) == pytest.approx(truth, rel=1e-13, abs=0)


@every_setting
def test_gradient_and_hessian_product_are_those_of_autodiff(loss, lam_b, shape):
    problem = make(loss, *LABELLED[shape], lam_b)
    found = evaluate(problem, point(problem), point(problem, seed=1))
    # Sums of a dozen terms of order one.
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14)
    jax.tree.map(compare, found.gradient, found.grad)
    jax.tree.map(compare, found.product, found.jvp_of_grad)


@every_bias
def test_gradient_is_a_difference_quotient_of_the_plain_objective(lam_b):
    problem = make(LOSSES[1], IMBALANCED, WEIGHTS, lam_b)
    params, direction, step = point(problem), point(problem, seed=1), 1e-5
    gradient = evaluate(problem, params, direction).gradient
    moved = [
        plain_objective(problem, jax.tree.map(lambda p, x, s=s: p + s * x, params, direction))
        for s in (step, -step)
    ]
    # Central difference: h² f'''/6 ≈ 1e-9, and eps f/h ≈ 2e-11.
    slope = dot(gradient, direction)
    assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(slope, rel=1e-7, abs=0)


def dense_hessian(problem: Problem, params: Params) -> np.ndarray:
    """∇²f of unweighted CE from its quadratic form, entry by entry by polarisation.

    Q = Σ qᵢᵀSᵢqᵢ + 2⟨G, AB⟩ + λ_W‖A‖² + λ_H‖B‖² + λ_b‖c‖²,  qᵢ = Ahᵢ + Wbᵢ + c.
    """
    W, H, b = (np.asarray(x) for x in (params.W, params.H, params.b))
    P = np.exp(W @ H + b[:, None])
    P /= P.sum(axis=0)
    G = (P - np.eye(3)[:, problem.labels]) / 6
    S = [(np.diag(p) - np.outer(p, p)) / 6 for p in P.T]
    shapes = [(3, DIM), (DIM, 6), (3,)]
    ends = np.cumsum([0, 3 * DIM, 6 * DIM, 3])

    def form(x, y):
        (A, B, c), (A2, B2, c2) = (
            [v[i:j].reshape(s) for i, j, s in zip(ends[:-1], ends[1:], shapes, strict=True)]
            for v in (x, y)
        )
        q, q2 = A @ H + W @ B + c[:, None], A2 @ H + W @ B2 + c2[:, None]
        curved = sum(q[:, i] @ S[i] @ q2[:, i] for i in range(6))
        bilinear = np.sum(G * (A @ B2 + A2 @ B))
        decay = problem.lam_w * np.sum(A * A2) + problem.lam_h * np.sum(B * B2)
        return curved + bilinear + decay + problem.lam_b * c @ c2

    basis = np.eye(ends[-1])
    return np.array([[form(x, y) for y in basis] for x in basis])


def test_hessian_product_is_the_dense_hessian():
    problem = make()
    params, direction = point(problem), point(problem, seed=1)
    dense = dense_hessian(problem, params)
    np.testing.assert_allclose(dense, dense.T, atol=1e-16)
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(direction)])
    product = evaluate(problem, params, direction).product
    found = [np.ravel(x) for x in jax.tree.leaves(product)]
    np.testing.assert_allclose(np.concatenate(found), dense @ flat, rtol=1e-12, atol=1e-14)


@every_bias
def test_a_weighted_problem_is_the_repeated_columns_it_stands_for(lam_b):
    loss, repeats = LabelSmoothing(0.1), WEIGHTS.astype(int)
    weighted = make(loss, IMBALANCED, WEIGHTS, lam_b)
    counts = tuple(int(n) for n in np.bincount(weighted.labels, weights=WEIGHTS))
    repeated = make(loss, counts, None, lam_b)

    def spread(x: Params) -> Params:
        features = np.asarray(x.H) / np.sqrt(WEIGHTS)
        return Params(x.W, jnp.asarray(np.repeat(features, repeats, axis=1)), x.b)

    results = []
    for problem, place in ((weighted, lambda x: x), (repeated, spread)):
        params, direction = place(point(weighted)), place(point(weighted, seed=1))
        found = evaluate(problem, params, direction)
        squares = dot(found.gradient, found.gradient), dot(found.product, found.product)
        results.append((float(found.value), *squares, dot(direction, found.product)))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-13)


# Rounding of the gradient -------------------------------------------------------------------------


SCALES = np.repeat([1e-2, 1.0, 5.0], 10)


def points(problem: Problem, dtype) -> Params:
    """Ten points of each scale, stacked."""
    batch = [point(problem, scale, seed, dtype) for seed, scale in enumerate(SCALES)]
    return jax.tree.map(lambda *x: jnp.stack(x), *batch)


@quick_jit
def gradients_and_noise(problem, batch):
    slope = jax.vmap(lambda p: value_and_gradient(problem, p)[1])
    wide = jax.tree.map(lambda x: x.astype(jnp.float64), batch)
    return (
        slope(batch),
        slope(wide),
        jax.vmap(lambda p: gradient_noise(problem, evaluated(problem, p)))(batch),
    )


def assert_bounds(bounds: np.ndarray, errors: np.ndarray) -> None:
    """At every point; and, scale by scale, no more than 1e4 times what was observed."""
    assert np.all(errors <= bounds)
    assert np.all(bounds.reshape(3, 10).max(axis=1) <= 1e4 * errors.reshape(3, 10).max(axis=1))


@pytest.mark.repeats
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label())
def test_gradient_noise_bounds_the_error_of_single_precision(loss):
    problem = make(loss, IMBALANCED, WEIGHTS)
    single, double, bounds = gradients_and_noise(problem, points(problem, np.float32))
    squares = [
        np.sum((np.asarray(s, float) - np.asarray(d)).reshape(30, -1) ** 2, axis=1)
        for s, d in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True)
    ]
    assert_bounds(np.asarray(bounds, float), np.sqrt(sum(squares)))


def exact_gradient(problem: Problem, params: Params) -> list[np.ndarray]:
    """∇f of unweighted CE at 50 digits."""
    W, H, b = (oracle.numbers(x).reshape(np.shape(x)) for x in (params.W, params.H, params.b))
    V = W.dot(H) + b[:, None]
    columns = [
        oracle.evaluate("CE", (), V[:, i], int(k)).gradient for i, k in enumerate(problem.labels)
    ]
    G = np.array(columns, dtype=object).T / len(columns)
    lam_w, lam_h, lam_b = (mp.mpf(x) for x in (problem.lam_w, problem.lam_h, problem.lam_b))
    return [
        G.dot(H.T) + lam_w * W,
        W.T.dot(G) + lam_h * H,
        G.dot(np.ones(6, dtype=object)) + lam_b * b,
    ]


def test_gradient_noise_bounds_the_error_of_double_precision():
    problem = make(counts=IMBALANCED)
    batch = points(problem, np.float64)
    found, _, bounds = gradients_and_noise(problem, batch)
    errors = []
    for i in range(len(SCALES)):
        exact = exact_gradient(problem, jax.tree.map(lambda x, i=i: x[i], batch))
        parts = [
            oracle.norm(oracle.numbers(f[i]) - np.ravel(t))
            for f, t in zip(jax.tree.leaves(found), exact, strict=True)
        ]
        errors.append(float(mp.norm(parts)))
    assert_bounds(np.asarray(bounds), np.array(errors))


# Starts -------------------------------------------------------------------------------------------


def test_a_start_does_not_depend_on_how_many_there_are():
    key, problem = jax.random.key(3), make(lam_b=None)
    few, many = (init_params(problem, key, 2.0, num_starts=n) for n in (2, 200))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:2]), few, many)
    assert len(np.unique(many.W)) == many.W.size  # no start, and no entry, twice
    # 200 starts of 12 and 24 entries: their deviations are known to 2%.
    assert np.std(many.W) == pytest.approx(2.0, rel=0.06)
    assert np.std(many.H) == pytest.approx(2.0, rel=0.06)


def test_starts_have_the_shape_and_dtype_asked_for():
    key = jax.random.key(3)
    for lam_b, b in ((None, None), (0.0, (3,))):
        shapes = jax.eval_shape(
            lambda lam_b=lam_b: init_params(make(lam_b=lam_b), key, dtype="float32")
        )
        assert (shapes.W.shape, shapes.H.shape) == ((3, DIM), (DIM, 6))
        assert {x.dtype for x in jax.tree.leaves(shapes)} == {np.dtype("float32")}
        assert getattr(shapes.b, "shape", None) == b
    assert jax.eval_shape(lambda: init_params(make(), key)).W.dtype == np.float64
    assert init_params(make(lam_b=None), key, scale=0).H.shape == (DIM, 6)


def test_starts_of_weighted_columns_scale_the_features_they_stand_for():
    key = jax.random.key(3)
    plain, weighted = (
        init_params(make(counts=IMBALANCED, weights=w), key) for w in (None, WEIGHTS)
    )
    np.testing.assert_allclose(weighted.H, np.asarray(plain.H) * np.sqrt(WEIGHTS), rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"scale": -1.0}, "scale"), ({"scale": "1"}, "scale"), ({"scale": np.nan}, "scale")]
    + [({"num_starts": n}, "num_starts") for n in (0, -1, 2.5)],
)
def test_bad_starts_are_refused_by_name(arguments, field):
    with pytest.raises((TypeError, ValueError), match=field):
        init_params(make(), jax.random.key(0), **arguments)
