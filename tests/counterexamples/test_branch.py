"""Branches of critical points, against LAPACK and minima computed at other decays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, make

from ufm import CrossEntropy, Params, global_minimum
from ufm.counterexamples.branch import Branch, scaled
from ufm.model.class_means import to_class_means


def branch_of(counts, lam_b) -> tuple[Branch, Params]:
    """The branch of the minimum in two dimensions, its rank, where nothing is outside."""
    problem = make(CrossEntropy(), counts, lam_b)
    found = global_minimum(problem).params(jax.random.key(0))
    _, _, rows = np.linalg.svd(np.asarray(found.W))
    basis = jnp.asarray(rows[:2].T)
    point = Params(found.W @ basis, basis.T @ found.H, found.b)
    narrow = dataclasses.replace(problem, dim=2)
    return Branch(narrow, Params(point.W, to_class_means(narrow, point.H), point.b)), point


@pytest.mark.parametrize("counts", [BALANCED, SKEWED])
@pytest.mark.parametrize("lam_b", [None, 0.0])
def test_stability_is_the_smallest_curvature_but_for_symmetries(counts, lam_b):
    branch, point = branch_of(counts, lam_b)
    assert len(branch.start.blocks) == (1 if counts == BALANCED else 3)
    sizes = np.linalg.eigvalsh(dense_hessian(branch.problem, point))
    zeros = 1 if lam_b is None else 2  # one rotation, and b + c1
    assert np.max(np.abs(sizes[:zeros])) < 1e-8 < sizes[zeros]
    assert branch.stability(branch.first) == pytest.approx(sizes[zeros], rel=1e-6)
    assert branch.least_part(branch.first) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("counts", [BALANCED, SKEWED])
def test_a_branch_of_minima_goes_through_the_minima_of_other_decays(counts):
    problem, (branch, _) = make(CrossEntropy(), counts), branch_of(counts, None)
    at = branch.first
    assert at.value == pytest.approx(float(global_minimum(problem).value), rel=1e-12)
    along = np.zeros_like(at.y)
    along[-1] = 1.0
    for t in (0.2, 0.4):
        found = branch.corrected(at.y + (t - at.t) * at.tangent / at.tangent[-1], along)
        assert found is not None
        at = found
        assert at.t == pytest.approx(t, rel=1e-12)
        exact = global_minimum(scaled(problem, float(np.exp(t))))
        assert at.value == pytest.approx(float(exact.value), rel=1e-11)
    # The tangent is the derivative: of f by t it is that of the penalties of W and H.
    near = branch.corrected(at.y + 1e-4 * at.tangent, along)
    assert near is not None
    pull = sum(
        0.5 * float(decay) * float(np.sum(x**2))
        for decay, x in (
            (at.point.problem.lam_w, at.point.W),
            (at.point.problem.lam_h, at.point.H),
        )
    )
    assert near.value - at.value == pytest.approx(pull * (near.t - at.t), rel=1e-3)


def test_a_point_that_is_not_critical_has_no_branch():
    branch, point = branch_of(SKEWED, None)
    with pytest.raises(ValueError, match="the point is not critical"):
        Branch(branch.problem, Params(3.0 * point.W, jnp.ones((2, 3)), None))
