"""Many starts and a verdict for each: the counts are those of the runs, and none is too many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import convex_minimum
from model_oracle import objective_and_gradient
from points import BALANCED, SKEWED, make

from ufm import MSE, CrossEntropy, Status, Verdict, init_params, solve_many, verify
from ufm.hessian import inertia


def runs(problem, **options):
    return verify(problem, jax.random.key(0), 4, **options)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "counts", "lam_b", "kind"),
    [
        (CrossEntropy(), BALANCED, 1e-2, "simplex ETF"),
        (MSE(), BALANCED, None, "orthogonal frame"),
        (CrossEntropy(), SKEWED, 1e-2, "imbalanced"),
    ],
)
def test_every_run_reaches_the_minimum_of_an_independent_solver(loss, counts, lam_b, kind):
    problem = make(loss, counts, lam_b)
    found = runs(problem)
    assert (found.num_starts, found.num_global, found.num_matching) == (4, 4, 4)
    assert found.verdicts == [Verdict.GLOBAL_MINIMUM] * 4
    assert found.minimum.kind == kind
    assert len(found.geometry) == found.metrics.nc1.shape[0] == 4
    oracle = convex_minimum(problem)
    values = [
        objective_and_gradient(problem, jax.tree.map(lambda x, i=i: x[i], found.solutions.params))[
            0
        ]
        for i in range(4)
    ]
    np.testing.assert_allclose(found.solutions.value, values, rtol=1e-14)
    np.testing.assert_allclose(values, oracle.value, rtol=0, atol=oracle.accuracy)
    # The worst gap bounds every run's distance to the minimum.
    assert found.worst_gap == max(float(x) for x in found.certificates.gap)
    assert max(values) - found.minimum.value <= found.worst_gap < 1e-7


def test_the_runs_are_those_of_solve_many():
    problem, key, done = make(CrossEntropy(), BALANCED, 1e-2), jax.random.key(5), []
    found = verify(
        problem, key, 3, scale=0.5, method="gradient_descent", tol=1e-6, on_done=done.append
    )
    same = solve_many(problem, key, num_starts=3, scale=0.5, method="gradient_descent", tol=1e-6)
    np.testing.assert_array_equal(found.solutions.params.W, same.params.W)
    np.testing.assert_array_equal(found.solutions.num_products, same.num_products)
    assert done == [0, 1, 2]


def test_above_the_collapse_threshold_the_origin_is_right():
    for lam_b in (1e-2, 0.0):
        found = runs(make(CrossEntropy(), BALANCED, lam_b, mu=0.3))
        assert found.minimum.kind == "origin"
        assert (found.num_global, found.num_matching) == (4, 4)
        assert float(jnp.max(jnp.abs(found.solutions.params.W))) < 1e-6


def test_with_too_few_dimensions_nothing_is_called_global():
    problem = make(CrossEntropy(), BALANCED, 1e-2, dim=1)
    found = runs(problem)
    assert not found.minimum.is_exact
    assert (found.num_global, found.num_matching) == (0, 0)
    assert [match.matches for match in found.geometry] == [None] * 4
    assert set(found.verdicts) <= {Verdict.UNDECIDED, Verdict.LOCAL_MINIMUM}
    for i, verdict in enumerate(found.verdicts):
        point = jax.tree.map(lambda x, i=i: x[i], found.solutions.params)
        assert (verdict is Verdict.LOCAL_MINIMUM) <= (inertia(problem, point).negative == 0)
    # The bound of more dimensions still holds, strictly.
    wide = convex_minimum(make(CrossEntropy(), BALANCED, 1e-2))
    assert np.all(np.asarray(found.certificates.lower_bound) <= wide.value)
    assert np.min(found.solutions.value) > wide.value + 0.01


def test_runs_cut_short_are_counted_as_such():
    problem = make(CrossEntropy(), BALANCED, 1e-2)
    found = runs(problem, max_steps=0)
    assert (found.num_global, found.num_matching) == (0, 0)
    assert found.verdicts == [Verdict.NOT_CRITICAL] * 4
    np.testing.assert_array_equal(found.solutions.status, int(Status.MAX_STEPS))
    starts = init_params(problem, jax.random.key(0), num_starts=4)
    np.testing.assert_array_equal(found.solutions.params.H, starts.H)
    assert found.worst_gap > 0.1


def test_the_tolerance_of_the_gap_is_passed_on():
    problem = make(CrossEntropy(), BALANCED, 1e-2)
    assert runs(problem, gap_tol=1e-15).num_global == 0
    assert runs(problem, tol=1e-3).num_global == 0
    assert runs(problem, tol=1e-3, gap_tol=0.5).num_global == 4
