"""Every method on random problems and points, against LAPACK on a Hessian assembled in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import dense_hessian

import ufm
from ufm import MSE, CrossEntropy, Focal, LabelSmoothing, Params, Problem, spectrum
from ufm.collapse.symmetric_solution import supported
from ufm.hessian.counts.arrow import arrow


def random_problem(rng: np.random.Generator) -> Problem:
    classes, dim = int(rng.integers(2, 6)), int(rng.integers(1, 7))
    counts = (int(rng.integers(1, 4)),) * classes
    if rng.random() < 0.5:
        counts = tuple(int(n) for n in rng.integers(1, 5, classes))
    loss = [
        CrossEntropy(),
        LabelSmoothing(float(rng.uniform(0, 0.5))),
        Focal(float(rng.uniform(0.1, 5))),
        MSE(*(float(x) for x in 10 ** rng.uniform(-1, 2, 2))),
    ][int(rng.integers(4))]
    lam_w, lam_h = (float(x) for x in 10 ** rng.uniform(-5, -1, 2))
    lam_b = [None, 0.0, float(10 ** rng.uniform(-4, 0))][int(rng.integers(3))]
    return Problem(loss, counts, dim, lam_w, lam_h, lam_b)


def random_point(problem: Problem, rng: np.random.Generator, *, collapsed: bool) -> Params:
    classes, dim = problem.num_classes, problem.dim
    rank, scale = int(rng.integers(1, dim + 1)), 10 ** rng.uniform(-2, 0.7)
    basis = np.linalg.qr(rng.normal(size=(dim, rank)))[0]
    H = rng.normal(size=(dim, problem.num_columns))
    if collapsed:
        H = np.repeat(basis @ rng.normal(size=(rank, classes)), problem.class_counts, axis=1)
    bias = jnp.asarray(rng.normal(size=classes)) if problem.has_bias else None
    W = rng.normal(size=(classes, rank)) @ basis.T
    return Params(jnp.asarray(scale * W), jnp.asarray(scale * H), bias)


@pytest.mark.repeats
@pytest.mark.parametrize("seed", range(5))
def test_methods_agree_on_random_problems(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    points = {
        "minimum": ufm.global_minimum(problem).params(jax.random.key(seed)),
        "collapsed": random_point(problem, rng, collapsed=True),
        "any": random_point(problem, rng, collapsed=False),
    }
    for kind, point in points.items():
        expected = np.linalg.eigvalsh(dense_hessian(problem, point))
        scale = float(np.max(np.abs(expected)))
        methods = {"dense", "auto"} | ({"collapsed"} if kind != "any" else set())
        if kind == "minimum" and supported(problem) and problem.dim >= problem.num_classes:
            methods.add("closed_form")
        for method in methods:
            found = spectrum(problem, point, method)
            assert found.complete
            error = np.abs(found.expand() - expected)
            assert np.max(error) <= 1e-9 * scale, (kind, method)
            allowed = np.repeat(found.residuals, found.multiplicities) + 1e-13 * scale
            assert np.all(error <= allowed), (kind, method)
        shifts = rng.uniform(expected[0] - 0.1 * scale, expected[-1], 12)
        shifts = np.append(shifts, rng.choice(expected, 4) + 1e-7 * scale)
        counts = arrow(problem, point).counts(shifts)
        right = counts.below == np.searchsorted(expected, counts.shifts)
        assert np.all(right | ~counts.reliable), kind
        assert np.mean(counts.reliable) > 0.7
        if len(expected) > 12:
            ends = spectrum(problem, point, "lanczos", count=3)
            np.testing.assert_allclose(ends.expand()[-3:], expected[-3:], rtol=0, atol=1e-8 * scale)
