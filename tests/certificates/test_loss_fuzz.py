"""No certificate of any loss is wrong at random points: a little of `loss_fuzz.py`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_fuzz import check, random_problem

import ufm

#: Losses for which the scalar bound, or duality without a conjugate or with a new one, decides.
CASES = [
    *(("gce", False, True), ("brier", False, False), ("ww", True, True), ("bce", True, True)),
    *(("bitempered", False, True), ("poly", True, True), ("sce", True, False)),
]


@pytest.mark.repeats
@pytest.mark.parametrize(("family", "skewed", "bias"), CASES)
def test_no_false_certificate(family, skewed, bias):
    problem = random_problem(np.random.default_rng(3), family, skewed, bias)
    assert list(check(problem, seed=1, count=60, starts=1)) == []


@pytest.mark.parametrize("spec", ["mae", "gce:0.7", "brier"])
def test_collapse_is_not_proven_where_dead_classes_are_better(spec):
    free = ufm.Problem.balanced(
        loss=ufm.parse_loss(spec), num_classes=4, per_class=2, dim=4,
        lam_w=1.0, lam_h=1.0, lam_b=0.0,
    )  # fmt: skip
    mu = 0.98 * float(ufm.collapse_threshold(free).mu)
    free = dataclasses.replace(free, lam_w=mu, lam_h=mu)
    without = dataclasses.replace(free, lam_b=None)
    # The same point is the global minimum without a bias, and proven.
    collapsed = ufm.global_minimum(without).params(jax.random.key(0))
    assert ufm.certify(without, collapsed).verdict is ufm.Verdict.GLOBAL_MINIMUM
    point = ufm.Params(collapsed.W, collapsed.H, jnp.zeros(4))
    assert ufm.certify(free, point).verdict is not ufm.Verdict.GLOBAL_MINIMUM
    best = ufm.global_minimum(free)
    assert not best.is_exact
    assert "live classes" in best.reason
    assert best.value < float(ufm.symmetric_minimum(free).value)
    lower = best.params(jax.random.key(1))
    assert float(ufm.objective(free, lower)) == pytest.approx(best.value, abs=1e-12)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("spec", "lam_b"),
    [("poly:2", 0.1), ("poly:0.5", 0.0), ("sce:6,0.1,-4", None), ("poly:-1", 0.0)],
)
def test_minima_with_unequal_classes_are_proven_by_the_conjugate_of_the_odds(spec, lam_b):
    """Also for ε = 2, where the loss is not convex but equals its envelope at the minimum."""
    problem = ufm.Problem(
        loss=ufm.parse_loss(spec), class_counts=(3, 2, 2, 1), dim=4,
        lam_w=0.04, lam_h=0.04, lam_b=lam_b,
    )  # fmt: skip
    best = ufm.global_minimum(problem)
    assert best.is_exact
    run = ufm.solve(problem, ufm.init_params(problem, jax.random.key(3), scale=1.0))
    assert float(run.value) == pytest.approx(best.value, abs=1e-12)
    found = ufm.certify(problem, run.params)
    assert found.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(found.lower_bound) <= best.value
