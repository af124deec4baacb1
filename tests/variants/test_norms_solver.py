"""Norm sets: gradients and Hessians against differences of f, starts, runs, messages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from norm_oracle import random_point, value
from norm_problems import BALL, BUDGET, FEW, SETS, make

import ufm
from ufm._support.quick_jit import counted_anew
from ufm.variants.norms.closed_form import balanced_minimum
from ufm.variants.norms.geometry import GEOMETRY, local_point

KEY = jax.random.key(0)
SKEWED = (4, 2, 1)


def plus(x, t, direction):
    return jax.tree.map(lambda a, d: a + t * d, x, direction)


def tangent_at(problem, params, seed):
    """A tangent vector at a point of the boundary, by the definition of each set."""
    rng = np.random.default_rng(seed)

    def part(x, given, axis):
        t, x = rng.standard_normal(x.shape), np.asarray(x)
        if given is None:
            return t
        over = None if isinstance(given, ufm.Budget) else axis
        inner = np.sum(x * t, axis=over, keepdims=True) / np.sum(x * x, axis=over, keepdims=True)
        return t - inner * x

    W = part(params.W, problem.classifier, 1)
    H = part(params.H, problem.features, 0)
    b = None if params.b is None else jnp.asarray(rng.standard_normal(params.b.shape))
    return ufm.Params(jnp.asarray(W), jnp.asarray(H), b)


def pushed_out(problem, seed):
    """A point of the boundary near collapse, where −∇f points out of every ball."""
    rng = np.random.default_rng(seed)
    W = np.eye(*problem.shapes["W"]) + 0.1 * rng.standard_normal(problem.shapes["W"])
    H = W.T[:, problem.labels] + 0.1 * rng.standard_normal(problem.shapes["H"])
    # Far outside of bounded sets, so that projection ends at the boundary.
    W, H = (
        jnp.asarray(x if given is None else 100.0 * x)
        for x, given in zip((W, H), (problem.classifier, problem.features), strict=True)
    )
    b = jnp.asarray(0.1 * rng.standard_normal(len(W))) if problem.has_bias else None
    start = ufm.Params(W, H, b)
    return GEOMETRY.retract(problem, start, _zero(start))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("counts", [SKEWED])
def test_gradient_and_hessian_are_derivatives_along_curves_in_the_set(name, counts):
    problem = make(name, counts=counts, lam_b=1e-2)
    params = pushed_out(problem, 1)
    _, grad, local = local_point(problem, params)
    assert np.all(local.active[0]) == (problem.classifier is not None)
    assert np.all(local.active[1]) == (problem.features is not None)
    t = tangent_at(problem, params, 2)

    def along(step):
        return value(problem, GEOMETRY.retract(problem, params, plus(_zero(t), step, t)))

    e = 1e-4
    slope = (along(e) - along(-e)) / (2 * e)
    bend = (along(e) - 2 * along(0.0) + along(-e)) / e**2
    inner = sum(float(jnp.sum(x * y)) for x, y in zip(_leaves(grad), _leaves(t), strict=True))
    assert inner == pytest.approx(slope, rel=1e-6, abs=1e-8)
    # Projection of a tangent step is a geodesic to second order.
    image = ufm.hvp(problem, params, t)
    curvature = sum(float(jnp.sum(x * y)) for x, y in zip(_leaves(image), _leaves(t), strict=True))
    assert curvature == pytest.approx(bend, rel=1e-5, abs=1e-6)
    again = tangent_at(problem, params, 2)
    np.testing.assert_allclose(_flat(GEOMETRY.tangent(problem, params, local, again)), _flat(t))


def _zero(x):
    return jax.tree.map(jnp.zeros_like, x)


def _leaves(x):
    return jax.tree.leaves(x)


def _flat(x):
    return np.concatenate([np.ravel(leaf) for leaf in _leaves(x)])


def test_inside_a_ball_or_pushed_inwards_the_gradient_is_whole():
    problem = make("ball, budget")
    params = random_point(problem, np.random.default_rng(4))
    inside = ufm.Params(0.5 * params.W, 0.5 * params.H, None)
    whole = jax.grad(lambda x: ufm.objective(problem, x))(inside)
    np.testing.assert_allclose(_flat(local_point(problem, inside)[1]), _flat(whole), atol=1e-15)
    # With exchanged labels the descent direction points inwards at collapse.
    out = pushed_out(problem, 1)
    inwards = ufm.Params(-out.W, out.H, None)
    _, grad, local = local_point(problem, inwards)
    assert not np.any(local.active[1])
    expected = jax.grad(lambda x: ufm.objective(problem, x))(inwards)
    np.testing.assert_allclose(grad.H, expected.H, atol=1e-15)


@pytest.mark.parametrize("name", SETS)
@counted_anew()  # runs before may have compiled what a new process has not
def test_starts_are_feasible_and_a_longer_batch_begins_with_a_shorter_one(name):
    problem = make(name, counts=SKEWED, lam_b=1e-2)
    starts = ufm.init_params(problem, KEY, scale=0.3, num_starts=3)
    again = ufm.init_params(problem, KEY, scale=0.3, num_starts=2)
    np.testing.assert_array_equal(starts.H[:2], again.H)
    assert not np.allclose(starts.H[0], starts.H[1])
    for x, given, axis in ((starts.W, problem.classifier, 2), (starts.H, problem.features, 1)):
        squares = np.sum(np.asarray(x) ** 2, axis=axis)
        match given:
            case ufm.Sphere(radius) | ufm.Ball(radius):
                np.testing.assert_allclose(squares, radius**2, rtol=1e-14)
            case ufm.Budget(mean_square):
                np.testing.assert_allclose(squares.mean(axis=1), mean_square, rtol=1e-14)
            case _:
                assert 0.2 < np.std(x) < 0.4


def test_uniform_starts_on_the_sphere_have_no_preferred_direction():
    problem = dataclasses.replace(make("sphere, sphere", counts=(1000, 1000, 1000)), dim=3)
    H = np.asarray(ufm.init_params(problem, KEY).H)
    # Means and second moments of uniform unit vectors, to five deviations of 3,000 samples.
    assert np.max(np.abs(H.mean(axis=1))) < 5 / np.sqrt(3 * 3000)
    assert np.max(np.abs(H @ H.T / 3000 - np.eye(3) / 3)) < 5 / np.sqrt(5 * 3000)


@pytest.mark.repeats
@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("method", ["newton", "gradient_descent"])
def test_runs_reach_the_closed_form_to_the_gradient_asked_for(name, method):
    problem = make(name)
    found = ufm.solve(problem, ufm.init_params(problem, KEY, 0.5), method=method)
    assert found.status is ufm.Status.CONVERGED
    assert float(found.grad_norm) <= 1e-10
    closed = balanced_minimum(problem)
    assert closed is not None
    assert float(found.value) == pytest.approx(closed.value, abs=1e-12)
    assert value(problem, found.params) == pytest.approx(closed.value, abs=1e-12)
    squares = np.sum(np.asarray(found.params.W) ** 2, axis=1)
    if problem.classifier is not None:
        radius = {BALL: 1.44, BUDGET: 2.0}.get(problem.classifier, 1.0)
        np.testing.assert_allclose(squares, radius, rtol=1e-8)


def test_an_infeasible_start_is_moved_into_the_set():
    problem = make("sphere, sphere")
    start = ufm.init_params(problem, KEY)
    moved = ufm.solve(problem, ufm.Params(3.0 * start.W, 0.1 * start.H, None), max_steps=0)
    np.testing.assert_allclose(moved.params.H, start.H, rtol=1e-13)
    np.testing.assert_allclose(moved.value, ufm.objective(problem, start), rtol=1e-13)


def test_many_starts_are_single_runs_and_float32_stops_at_its_floor():
    problem = make("sphere, sphere", counts=SKEWED)
    many = ufm.solve_many(problem, KEY, num_starts=2)
    start = jax.tree.map(lambda x: x[1], ufm.init_params(problem, KEY, num_starts=2))
    one = ufm.solve(problem, start)
    np.testing.assert_array_equal(many.params.W[1], one.params.W)
    single = ufm.solve(problem, jax.tree.map(lambda x: x.astype(jnp.float32), start))
    assert single.status is ufm.Status.CONVERGED
    assert float(single.value) == pytest.approx(float(one.value), rel=1e-5)
    assert ufm.polish(problem, single).status is ufm.Status.CONVERGED


def test_weighted_columns_are_repeated_ones():
    single = make("sphere, ball", counts=(1, 1, 1))
    weighted = dataclasses.replace(single, column_weights=jnp.asarray([4.0, 2.0, 1.0]))
    repeated = make("sphere, ball", counts=SKEWED)
    found, expected = (ufm.solve(x, ufm.init_params(x, KEY)).value for x in (weighted, repeated))
    assert float(found) == pytest.approx(float(expected), abs=1e-13)


def test_messages_say_what_to_change():
    problem = make("sphere, sphere")
    start = ufm.init_params(problem, KEY)
    with pytest.raises(ValueError, match="choose one of: newton, gradient_descent"):
        ufm.solve(problem, start, method="lbfgs")
    with pytest.raises(ValueError, match=r"params\.H is not in the set features=Sphere"):
        ufm.certify(problem, ufm.Params(start.W, 2.0 * start.H, None))
    with pytest.raises(ValueError, match="scale must be non-negative"):
        ufm.init_params(problem, KEY, scale=-1.0)
    with pytest.raises(ValueError, match=r"ufm\.spectral_density does not support"):
        ufm.spectral_density(problem, start, KEY)
    with pytest.raises(ValueError, match="part must be 'all'"):
        ufm.hvp(problem, start, start, part="decay")
