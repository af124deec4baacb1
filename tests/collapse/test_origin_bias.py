"""The origin with its best bias: closed forms, and a gradient taken another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from points import SKEWED, make
from scipy.optimize import minimize

import ufm
from ufm import MSE, CrossEntropy, Focal, LabelSmoothing, Problem, objective, origin
from ufm.model.class_means import reduced_problem

SHARES = np.array(SKEWED) / sum(SKEWED)


def test_cross_entropy_with_a_free_bias_has_log_priors():
    b = origin(make(CrossEntropy(), SKEWED, lam_b=0.0)).b
    expected = np.log(SHARES) - np.mean(np.log(SHARES))
    np.testing.assert_allclose(b, expected, atol=1e-12)


def test_the_bias_of_mse():
    b = origin(make(MSE(), SKEWED, lam_b=0.25)).b
    np.testing.assert_allclose(b, SHARES / 1.25, atol=1e-13)


@pytest.mark.repeats
@pytest.mark.parametrize("loss", [LabelSmoothing(0.1), Focal(3.0)], ids=lambda x: x.label())
@pytest.mark.parametrize("lam_b", [0.0, 1e-2])
def test_no_bias_is_better_and_the_gradient_vanishes(loss, lam_b):
    problem = make(loss, SKEWED, lam_b=lam_b)
    point = origin(problem)
    gradient = jax.grad(lambda x: objective(problem, x))(point)
    assert all(float(jnp.max(jnp.abs(x))) < 1e-12 for x in jax.tree.leaves(gradient))

    def value(b):
        return float(objective(problem, type(point)(point.W, point.H, jnp.asarray(b))))

    found = minimize(value, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7})
    assert value(point.b) <= found.fun + 1e-12


def test_the_class_means_have_the_same_bias():
    problem = make(CrossEntropy(), SKEWED, lam_b=1e-2)
    small = origin(reduced_problem(problem, problem.dim))
    assert small.H.shape == (4, 3)
    np.testing.assert_allclose(small.b, origin(problem).b, atol=1e-12)


def test_a_rare_class_is_no_obstacle():
    counts = (10**6, 10**3, 1)
    problem = Problem(CrossEntropy(), counts, 2, 1e-3, 1e-3, 0.0)
    b = np.asarray(origin(reduced_problem(problem, 2)).b)
    shares = np.log(np.array(counts) / sum(counts))
    np.testing.assert_allclose(b, shares - np.mean(shares), atol=1e-9)


def test_without_a_bias_there_is_none():
    assert origin(make(MSE(), SKEWED)).b is None


def _kinked(z, label):
    return jnp.sum(jnp.abs(z) ** 1.5) - z[label]


def test_a_loss_without_second_derivatives_there_is_refused():
    with pytest.raises(ValueError, match="not finite at equal logits"):
        origin(make(ufm.CustomLoss(_kinked), lam_b=1e-2))
