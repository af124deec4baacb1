"""Conjugate gradients in a trust region, and lines, against dense linear algebra."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import objective_and_gradient
from points import SKEWED, gaussian, make

from ufm import MSE, CrossEntropy, Focal, LabelSmoothing, Params
from ufm.model.hessian_product import linearise
from ufm.solvers._line import (
    along_ray,
    along_step,
    on_ray,
    scale_while_falling,
    straight_end,
    value_on,
)
from ufm.solvers._model import minimise_model

SIZE = 12
LOSSES = [CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE(5.0, 3.0)]


def matrix(eigenvalues) -> np.ndarray:
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((SIZE, SIZE)))
    return Q @ np.diag(eigenvalues) @ Q.T


def minimised(A, g, radius, goal=1e-12, **options):
    split = {"a": jnp.asarray(g[:5]), "b": jnp.asarray(g[5:])}

    def product(x):
        image = jnp.asarray(A) @ jnp.concatenate([x["a"], x["b"]])
        return {"a": image[:5], "b": image[5:]}

    found = minimise_model(product, split, jnp.asarray(radius), jnp.asarray(goal), 100, **options)
    return found, np.concatenate([found.step["a"], found.step["b"]])


def fall(A, g, s) -> float:
    return -(g @ s + 0.5 * s @ A @ s)


GRADIENT = np.random.default_rng(2).standard_normal(SIZE)


def test_inside_the_region_it_solves_the_linear_system():
    A = matrix(np.geomspace(0.1, 10, SIZE))
    found, s = minimised(A, GRADIENT, 1e3)
    np.testing.assert_allclose(s, -np.linalg.solve(A, GRADIENT), rtol=1e-10)
    assert float(found.decrease) == pytest.approx(fall(A, GRADIENT, s), rel=1e-12)
    assert float(found.length) == pytest.approx(np.linalg.norm(s), rel=1e-12)
    assert not found.at_boundary
    # In exact arithmetic SIZE; rounding costs a few more on the way to 1e-12.
    assert int(found.products) <= SIZE + 4


def test_equal_eigenvalues_are_solved_for_together():
    found, _ = minimised(matrix([1.0] * 6 + [7.0] * 6), GRADIENT, 1e3)
    assert int(found.products) == 2


@pytest.mark.parametrize("radius", [1e-3, 0.7, 5.0])
@pytest.mark.parametrize("lowest", [0.1, -3.0], ids=["convex", "indefinite"])
def test_at_the_boundary_length_and_decrease_are_what_it_says(lowest, radius):
    A = matrix(np.concatenate([[lowest], np.geomspace(0.1, 10, SIZE - 1)]))
    found, s = minimised(A, GRADIENT, radius)
    assert np.linalg.norm(s) == pytest.approx(radius, rel=1e-12)
    assert float(found.length) == pytest.approx(radius, rel=1e-12)
    assert float(found.decrease) == pytest.approx(fall(A, GRADIENT, s), rel=1e-10)
    assert found.at_boundary
    # No worse than the Cauchy point, and within the region no better than the true minimum.
    eigenvalues, vectors = np.linalg.eigh(A)
    shift = max(0.0, -eigenvalues[0])
    shifts = shift + np.geomspace(1e-9, 1e6, 4000)
    inner = vectors.T @ GRADIENT
    lengths = [np.linalg.norm(inner / (eigenvalues + x)) for x in shifts]
    best = vectors @ (
        -inner / (eigenvalues + shifts[np.argmin(np.abs(np.array(lengths) - radius))])
    )
    cauchy = -radius * GRADIENT / np.linalg.norm(GRADIENT)
    along = max(fall(A, GRADIENT, t * cauchy) for t in np.linspace(0, 1, 101))
    assert along * (1 - 1e-12) <= fall(A, GRADIENT, s) <= fall(A, GRADIENT, best) * 1.01


def test_unless_wanted_it_does_nothing():
    found, s = minimised(matrix(np.ones(SIZE)), GRADIENT, 1.0, wanted=False)
    assert not np.any(s)
    assert int(found.products) == 0
    assert float(found.decrease) == float(found.length) == 0.0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label())
def test_lines_have_the_values_of_the_objective(loss):
    problem = make(loss, SKEWED, 1e-2)
    point, step = gaussian(problem, 0, 0.5), gaussian(problem, 1, 0.8)
    line = along_step(problem, linearise(problem, point), step)
    for t in (-0.5, 0.0, 0.3, 1.0, 4.0):
        there = jax.tree.map(lambda x, s, t=t: x + t * s, point, step)
        expected = objective_and_gradient(problem, there)[0]
        assert float(value_on(problem, line, jnp.asarray(t))) == pytest.approx(expected, rel=1e-13)
    # W(H + B) + AH as one product in twice the dimensions: the logits without AB.
    end = jax.tree.map(jnp.add, point, step)
    wide = Params(jnp.hstack([point.W, step.W]), jnp.vstack([end.H, point.H]), end.b)
    free = dataclasses.replace(problem, lam_w=0.0, lam_h=0.0, lam_b=0.0)
    decays = objective_and_gradient(problem, end)[0] - objective_and_gradient(free, end)[0]
    free = dataclasses.replace(free, dim=2 * problem.dim)
    expected = objective_and_gradient(free, wide)[0] + decays
    assert float(straight_end(problem, line)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_rays_have_the_values_of_the_objective(lam_b):
    problem = make(CrossEntropy(), SKEWED, lam_b)
    point = gaussian(problem, 0, 2.0)
    ray = along_ray(problem, linearise(problem, point))
    for t in (1e-6, 0.25, 1.0, 2.0):
        there = on_ray(point, jnp.asarray(t))
        expected = objective_and_gradient(problem, there)[0]
        assert float(value_on(problem, ray, jnp.asarray(t))) == pytest.approx(expected, rel=1e-13)
    W, H = np.asarray(point.W), np.asarray(point.H)
    there = on_ray(point, jnp.asarray(0.25))
    assert isinstance(there, Params)
    np.testing.assert_allclose(there.W @ there.H, 0.25 * W @ H, rtol=1e-14)


@pytest.mark.parametrize(
    ("value", "factor", "options", "expected"),
    [
        (lambda t: (t - 0.26) ** 2, 0.5, {}, 0.25),
        (lambda t: (t - 9.0) ** 2, 2.0, {}, 8.0),
        (lambda t: (t - 0.9) ** 2, 0.5, {}, 1.0),
        # Flat to the eye until it is below the target: it has to go on.
        (lambda t: jnp.where(t < 0.1, -1.0, 5.0 - t), 0.5, {"target": 0.0}, 2.0**-4),
        (lambda t: jnp.where(t > 0.3, jnp.nan, t), 0.5, {"target": 0.3, "enough": 0.9}, None),
        (lambda t: 1.0 + 1e-3 * t, 0.5, {"enough": 0.9}, 1.0),
        (lambda t: t, 0.5, {"wanted": False}, 1.0),
    ],
    ids=["half", "double", "neither", "target", "not a number", "not enough", "not wanted"],
)
def test_scaling_stops_where_the_function_no_longer_falls(value, factor, options, expected):
    options = {"wanted": True} | options
    found = scale_while_falling(
        value,
        jnp.asarray(value(jnp.asarray(1.0))),
        jnp.asarray(factor),
        target=options.pop("target", jnp.inf),
        enough=options.pop("enough", 1.0),
        wanted=jnp.asarray(options.pop("wanted")),
    )
    if expected is None:  # falls for ever: the number of trials ends it
        assert 0 < float(found) < 1e-15
    else:
        assert float(found) == expected
