"""The nearest minimiser against a search over all rotations, and where prediction degenerates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from points import gaussian, make, origin

from ufm import (
    MSE,
    CrossEntropy,
    Params,
    Problem,
    global_minimum,
    nearest_minimiser,
    objective,
)
from ufm.model.params import norm


def searched(problem: Problem, params: Params, bias: bool) -> float:
    """The least distance over a fine grid of rotations and reflections of the plane (d = 2)."""
    target = global_minimum(problem).params(jax.random.key(5))
    W, H, W_star, H_star = (np.asarray(x) for x in (params.W, params.H, target.W, target.H))
    best = np.inf
    for angle in np.linspace(0.0, 2 * np.pi, 20_000, endpoint=False):
        c, s = np.cos(angle), np.sin(angle)
        for Q in (np.array([[c, -s], [s, c]]), np.array([[c, s], [s, -c]])):
            best = min(best, np.sum((W - W_star @ Q) ** 2) + np.sum((H - Q.T @ H_star) ** 2))
    if bias:
        # A common shift is free: what is left of b is its deviation from its mean.
        best += np.sum((np.asarray(params.b) - np.mean(np.asarray(params.b))) ** 2)
    return float(np.sqrt(best))


@pytest.mark.parametrize("lam_b", [None, 0.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_rotation_of_the_minimiser_is_nearer(seed, lam_b):
    problem = make(CrossEntropy(), lam_b=lam_b, dim=2)
    params = gaussian(problem, seed, 1.0)
    found = nearest_minimiser(problem, params)
    assert found is not None
    expected = searched(problem, params, bias=lam_b is not None)
    # The grid misses the best angle by at most 1.6e-4, which costs its square.
    assert float(found.distance) == pytest.approx(expected, rel=1e-6)
    assert float(found.distance) <= expected + 1e-12


def test_what_is_returned_is_a_minimiser_at_that_distance():
    problem = make(CrossEntropy(), lam_b=1e-2)
    params = gaussian(problem, 2, 1.0)
    minimum = global_minimum(problem)
    found = nearest_minimiser(problem, params, minimum)
    assert found is not None
    assert float(objective(problem, found.params)) == pytest.approx(minimum.value, rel=1e-13)
    apart = jax.tree.map(lambda x, y: x - y, params, found.params)
    assert float(found.distance) == pytest.approx(float(norm(apart)), rel=1e-14)
    size = np.hypot(np.linalg.norm(found.params.W), np.linalg.norm(found.params.H))
    assert float(found.relative) == pytest.approx(float(found.distance) / size, rel=1e-13)


def test_a_turned_minimiser_is_at_no_distance_whatever_its_orientation():
    problem = make(MSE(), lam_b=0.0)
    params = global_minimum(problem).params(jax.random.key(11))
    found = nearest_minimiser(problem, params)
    assert found is not None
    assert float(found.distance) < 1e-13


def test_a_shift_of_the_bias_counts_unless_the_loss_ignores_it():
    for loss, distance in ((CrossEntropy(), 0.0), (MSE(), 3**0.5)):
        problem = make(loss, lam_b=0.0)
        params = global_minimum(problem).params(jax.random.key(11))
        assert params.b is not None
        found = nearest_minimiser(problem, Params(params.W, params.H, params.b + 1.0))
        assert found is not None
        assert float(found.distance) == pytest.approx(distance, abs=1e-13)


def test_where_the_minimum_is_the_origin_the_distance_is_the_norm():
    problem = make(CrossEntropy(), lam_b=None, mu=0.5)
    params = gaussian(problem, 3, 1.0)
    found = nearest_minimiser(problem, params)
    assert found is not None
    assert float(found.distance) == pytest.approx(float(norm(params)), rel=1e-14)
    assert np.isnan(found.relative)
    at_zero = nearest_minimiser(problem, origin(problem))
    assert at_zero is not None
    assert float(at_zero.distance) == 0.0


def test_weighted_columns_have_the_distance_of_the_columns_they_repeat():
    weights = jnp.asarray([2.0, 2.0, 2.0])
    columns = Problem(CrossEntropy(), (1, 1, 1), 4, 2e-2, 5e-3, None, weights)
    repeated = make(CrossEntropy())
    params = gaussian(columns, 4, 1.0)
    copies = Params(params.W, jnp.repeat(params.H, 2, axis=1) / 2**0.5, None)
    found, expected = nearest_minimiser(columns, params), nearest_minimiser(repeated, copies)
    assert found is not None
    assert expected is not None
    # The weighted problem is solved, the balanced one in closed form.
    assert float(found.distance) == pytest.approx(float(expected.distance), rel=1e-6)


def test_no_minimiser_known_no_distance():
    problem = make(CrossEntropy(), dim=4, mu=0.0)
    assert nearest_minimiser(problem, gaussian(problem, 0, 1.0)) is None
