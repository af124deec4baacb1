"""Class means and deviations against plain NumPy, and the reduced problem against the whole one."""

import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import objective_and_gradient
from points import BALANCED, SKEWED, gaussian, make

from ufm import CrossEntropy, Params, Problem
from ufm.model.class_means import (
    class_sizes,
    deviations,
    from_class_means,
    reduced_problem,
    to_class_means,
)

WEIGHTS = np.array([0.5, 2.0, 3.0, 1.0, 7.0, 0.25, 4.0])


def weighted(counts=SKEWED) -> Problem:
    return Problem(CrossEntropy(), counts, 4, 1e-2, 1e-2, 1e-2, jnp.asarray(WEIGHTS[: sum(counts)]))


PROBLEMS = {
    "equal": make(CrossEntropy(), BALANCED),
    "skewed": make(CrossEntropy(), SKEWED),
    "weighted": weighted(),
    "equal and weighted": weighted(BALANCED),
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))


def indicators(problem: Problem) -> np.ndarray:
    """U (N×K), entry by entry."""
    c = np.asarray(problem.samples(float))
    U = np.zeros((problem.num_columns, problem.num_classes))
    for i, k in enumerate(problem.labels):
        U[i, k] = np.sqrt(c[i] / c[problem.labels == k].sum())
    return U


@every_problem
def test_the_maps_are_products_with_the_indicators(problem):
    rng, U = np.random.default_rng(0), indicators(problem)
    X, Y = rng.standard_normal((5, len(U))), rng.standard_normal((5, U.shape[1]))
    close = {"rtol": 0, "atol": 1e-14}
    np.testing.assert_allclose(to_class_means(problem, jnp.asarray(X)), X @ U, **close)
    np.testing.assert_allclose(from_class_means(problem, jnp.asarray(Y)), Y @ U.T, **close)
    np.testing.assert_allclose(deviations(problem, jnp.asarray(X)), X - X @ U @ U.T, **close)
    assert class_sizes(problem).tolist() == pytest.approx(
        [np.asarray(problem.samples(float))[problem.labels == k].sum() for k in range(3)]
    )


@every_problem
def test_without_deviations_the_reduced_problem_is_the_whole_one(problem):
    small = reduced_problem(problem, problem.dim)
    point = gaussian(small, 3, 0.7)
    whole = Params(point.W, from_class_means(problem, point.H), point.b)
    value, gradient = objective_and_gradient(problem, whole)
    small_value, small_gradient = objective_and_gradient(small, point)
    assert small_value == pytest.approx(value, rel=1e-14, abs=0)
    in_w = point.W.size
    np.testing.assert_allclose(gradient[:in_w], small_gradient[:in_w], rtol=0, atol=1e-14)
    grad_h = gradient[in_w : in_w + whole.H.size].reshape(whole.H.shape)
    grad_y = small_gradient[in_w : in_w + point.H.size].reshape(point.H.shape)
    np.testing.assert_allclose(grad_h, grad_y @ indicators(problem).T, rtol=0, atol=1e-14)
