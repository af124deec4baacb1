"""Contrastive problems: value and derivatives against the definition, checks, starts and solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contrastive_oracle import along_geodesic, loss, unit

import ufm
from ufm.solvers import Status
from ufm.variants.contrastive.geometry import NonNegativeSphere, UnitSphere
from ufm.variants.contrastive.pairs import reduced

#: Class counts, dimension, temperature and batches. Some samples have no positives, or none in a
#: batch.
CASES = [
    ((3, 3, 2), 4, 0.5, None),
    ((4, 1, 2), 3, 0.2, None),
    ((2, 2, 3), 3, 0.7, ((0, 1, 2, 3), (2, 3, 4, 5, 6), (6, 0, 1, 2))),
]


def at_random(case, seed=0, **more):
    counts, dim, tau, batches = case
    problem = ufm.ContrastiveProblem(counts, dim, tau, batches=batches, **more)
    H = np.random.default_rng(seed).standard_normal((dim, sum(counts)))
    return problem, problem.point(np.abs(H) if more else H)


def direction(params, seed):
    H = np.asarray(params.H)
    B = np.random.default_rng(seed).standard_normal(H.shape)
    return B - H * (H * B).sum(axis=0)


@pytest.mark.parametrize("case", CASES)
def test_value_gradient_and_hessian_are_those_of_the_definition(case):
    counts, _, tau, batches = case
    problem, params = at_random(case)
    H = np.asarray(params.H)

    def along(B, t):
        return loss(along_geodesic(H, B, t), counts, tau, batches)

    def second(B):
        return (along(B, 1e-4) - 2 * along(B, 0.0) + along(B, -1e-4)) / 1e-8

    np.testing.assert_allclose(ufm.objective(problem, params), along(H * 0, 0.0), rtol=1e-14)
    _, grad, _ = UnitSphere().evaluate(problem, params)
    B, C = direction(params, 1), direction(params, 2)
    slope = (along(B, 1e-5) - along(B, -1e-5)) / 2e-5
    np.testing.assert_allclose(np.sum(grad.H * B), slope, rtol=1e-7)
    np.testing.assert_allclose((H * grad.H).sum(axis=0), 0.0, atol=1e-15)
    image = ufm.hvp(problem, params, ufm.Params(params.W, jnp.asarray(B), None)).H
    np.testing.assert_allclose(np.sum(image * B), second(B), rtol=1e-6)
    mixed = (second(B + C) - second(B - C)) / 4
    np.testing.assert_allclose(np.sum(image * C), mixed, rtol=1e-5)
    np.testing.assert_allclose((H * image).sum(axis=0), 0.0, atol=1e-14)


def test_gradients_of_jax_agree():
    """Also outside the sphere: f is that of the directions of the features."""
    problem, params = at_random(CASES[2])
    _, grad, _ = UnitSphere().evaluate(problem, params)
    by_jax = jax.grad(lambda H: ufm.objective(problem, ufm.Params(params.W, H, None)))
    np.testing.assert_allclose(by_jax(params.H), grad.H, atol=1e-14)


def test_columns_that_stand_for_classes():
    """The K-column problem has the value of the full batch with NC1, a class of one included."""
    problem = ufm.ContrastiveProblem((4, 1, 2), 3, 0.2)
    C = unit(np.random.default_rng(3).standard_normal((3, 3)))
    point = ufm.Params(jnp.zeros((0, 3)), jnp.asarray(C), None)
    value = UnitSphere().evaluate(reduced(problem), point)[0]
    expected = loss(C[:, problem.labels], (4, 1, 2), 0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_large_exponents_do_not_overflow():
    problem, params = at_random(((3, 2), 3, 1e-4, None))
    X = np.asarray(params.H.T @ params.H) / 1e-4
    rows = []
    for i in range(5):
        others = [a for a in range(5) if a != i]
        positives = [a for a in others if problem.labels[a] == problem.labels[i]]
        top = X[i, others].max()
        rows.append(top + np.log(np.exp(X[i, others] - top).sum()) - X[i, positives].mean())
    np.testing.assert_allclose(ufm.objective(problem, params), np.mean(rows), rtol=1e-12)


# The part H ≥ 0 of the sphere --------------------------------------------------------------------


def test_the_projected_gradient_holds_entries_that_would_become_negative():
    problem, _ = at_random(CASES[0], features=ufm.NonNegative())
    H = np.abs(np.random.default_rng(4).standard_normal((4, 8)))
    H[np.random.default_rng(5).random((4, 8)) < 0.4] = 0.0
    H[0] += 0.1
    params = problem.point(H)
    value, grad, _ = NonNegativeSphere().evaluate(problem, params)
    whole = UnitSphere().evaluate(problem, params)
    assert value == whole[0]
    held = (np.asarray(params.H) == 0) & (np.asarray(whole[1].H) >= 0)
    assert 0 < held.sum() < held.size
    np.testing.assert_array_equal(grad.H, np.where(held, 0.0, whole[1].H))
    step = ufm.Params(params.W, 5.0 * grad.H, None)
    moved = NonNegativeSphere().retract(problem, params, step).H
    assert np.min(moved) == 0.0
    np.testing.assert_allclose(np.linalg.norm(moved, axis=0), 1.0, rtol=1e-15)


# Starts and solves -------------------------------------------------------------------------------


def test_starts_are_unit_columns_and_depend_on_the_key_alone():
    problem = ufm.ContrastiveProblem((3, 2), 3)
    key = jax.random.key(1)
    starts = ufm.init_params(problem, key, num_starts=3)
    assert starts.W.shape == (3, 0, 3)
    np.testing.assert_allclose(np.linalg.norm(starts.H, axis=1), 1.0, rtol=1e-15)
    first = ufm.init_params(problem, key, scale=7.0, num_starts=1)
    np.testing.assert_array_equal(first.H[0], starts.H[0])
    traced = jax.jit(lambda k: ufm.init_params(problem, k, num_starts=3).H)(key)
    np.testing.assert_allclose(traced, starts.H, rtol=1e-12)
    positive = ufm.ContrastiveProblem((3, 2), 3, features=ufm.NonNegative())
    assert np.min(ufm.init_params(positive, key).H) >= 0


def test_the_value_that_is_known_for_four_classes_of_five():
    problem = ufm.ContrastiveProblem((5, 5, 5, 5), 3, 0.5)
    found = ufm.solve(problem, ufm.init_params(problem, jax.random.key(0)))
    assert Status(int(found.status)) is Status.CONVERGED
    assert float(found.grad_norm) <= 1e-10
    np.testing.assert_allclose(found.value, 1.617852761740, rtol=0, atol=1e-12)


def test_many_temperatures_are_one_batch():
    temperatures = np.array([1.0, 0.5])
    problem = ufm.ContrastiveProblem((5, 5, 5, 5), 3, temperatures)
    found = ufm.solve_many(problem, jax.random.key(0))
    expected = np.log(4 + 15 * np.exp(-4 / (3 * temperatures)))
    np.testing.assert_allclose(found.value, expected, rtol=1e-13)
    with pytest.raises(ValueError, match="call global_minimum once for each"):
        ufm.global_minimum(problem)


def test_single_precision_is_polished():
    problem = ufm.ContrastiveProblem((5, 5, 5, 5), 3, 0.5)
    start = ufm.init_params(problem, jax.random.key(0), dtype=jnp.float32)
    found = ufm.solve(problem, start)
    assert found.value.dtype == jnp.float32
    assert Status(int(found.status)) is Status.CONVERGED
    better = ufm.polish(problem, found)
    np.testing.assert_allclose(better.value, 1.617852761740, rtol=0, atol=1e-12)


# Invalid input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"class_counts": (1, 1)}, "class_counts needs a class of 2 samples or more"),
        ({"class_counts": (4,)}, "class_counts needs at least 2 classes"),
        ({"dim": 1}, "dim must be at least 2"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"features": ufm.Sphere()}, r"features must be None .* or ufm.NonNegative"),
        ({"batches": 3}, "batches must list the samples"),
        ({"batches": [3]}, r"batches\[0\] must list the indices"),
        ({"batches": [[0, 1, 9]]}, r"batches\[0\] has the index 9, but N=5"),
        ({"batches": [[0, 1, 1]]}, r"batches\[0\] has a sample twice"),
        ({"batches": [[0, 1], [2, 3]]}, r"batches\[1\] has no two samples of a class"),
        ({"batches": [[0, 1, 2, 3]]}, "every sample: 4 is in none"),
        ({"batches": [[0, 1, -1]]}, r"batches\[0\] must be a whole number"),
    ],
)
def test_invalid_problems_are_refused_by_name(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ufm.ContrastiveProblem(**{"class_counts": (3, 2), "dim": 3, **given})


def test_points_off_the_feasible_set_are_refused():
    problem = ufm.ContrastiveProblem((3, 2), 3)
    params = ufm.init_params(problem, jax.random.key(0))
    with pytest.raises(ValueError, match=r"params\.H must have columns of norm 1"):
        ufm.objective(problem, ufm.Params(params.W, 1.1 * params.H, None))
    with pytest.raises(ValueError, match=r"params\.W must have shape \(0, 3\)"):
        ufm.objective(problem, ufm.Params(jnp.zeros((2, 3)), params.H, None))
    with pytest.raises(ValueError, match="none of them zero"):
        problem.point(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"features must have shape \(3, 5\)"):
        problem.point(np.ones((3, 4)))
    positive = ufm.ContrastiveProblem((3, 2), 3, features=ufm.NonNegative())
    with pytest.raises(ValueError, match="negative entries"):
        ufm.certify(positive, params)
    with pytest.raises(ValueError, match="no negative entries"):
        positive.point(params.H)


def test_what_is_not_answered_is_refused():
    problem = ufm.ContrastiveProblem((3, 2), 3)
    params = ufm.init_params(problem, jax.random.key(0))
    with pytest.raises(ValueError, match=r"ufm\.spectrum does not support .* contrastive"):
        ufm.spectrum(problem, params)
    with pytest.raises(ValueError, match="method 'adam' is not for problems with a supervised"):
        ufm.solve(problem, params, method="adam")
    with pytest.raises(ValueError, match="part must be 'all'"):
        ufm.hvp(problem, params, params, part="decay")
    with pytest.raises(ValueError, match="scale must be positive"):
        ufm.init_params(problem, jax.random.key(0), scale=0.0)
