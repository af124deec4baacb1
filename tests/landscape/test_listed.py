"""The census of squared error with hidden layers: the list, its eigenvalues and its descents."""

import json

import jax
import numpy as np
import pytest

import ufm
from ufm._support.strict_json import dumps
from ufm.landscape.stored import census_arrays, census_entry, read_census

PROBLEM = ufm.Problem(
    loss=ufm.MSE(), class_counts=(4, 3, 1), dim=4, lam_w=3e-2, lam_h=2e-2, lam_b=0.0,
    lam_hidden=(1e-2,), hidden_dims=(3,),
)  # fmt: skip


@pytest.fixture(scope="module")
def census():
    return ufm.explore(PROBLEM, jax.random.key(0))


def test_points_and_least_curvatures_are_those_of_the_dense_hessian(census):
    listed = [x.value for x in ufm.critical_points(PROBLEM)]
    np.testing.assert_allclose([x.value for x in census.points], listed, rtol=1e-13)
    for point in census.points:
        params = point.params
        assert float(ufm.objective(PROBLEM, params)) == pytest.approx(point.value, rel=1e-13)
        eigenvalues = np.linalg.eigvalsh(ufm.dense_hessian(PROBLEM, params))
        assert np.sum(eigenvalues < -1e-8) == point.index
        assert np.sum(np.abs(eigenvalues) < 1e-8) == point.zero_modes
        if point.index:
            assert point.smallest == pytest.approx(eigenvalues[0], rel=1e-9)
            assert point.residual < 1e-12
            product = ufm.hvp(point.space.small, point.point, point.direction)
            for image, part in zip(
                jax.tree.leaves(product), jax.tree.leaves(point.direction), strict=True
            ):
                np.testing.assert_allclose(image, point.smallest * part, atol=1e-12)
        s = np.linalg.svd(params.whole_classifier @ params.H, compute_uv=False)
        np.testing.assert_allclose(point.singular_values, s[:3], atol=1e-12)
    assert len(census.counterexamples) == 2  # rank 1 and the origin: both are local minima


def test_descents_go_down_both_ways_from_every_saddle(census):
    saddles = [i for i, point in enumerate(census.points) if point.index]
    assert {each.source for each in census.descents} == set(saddles)
    for each in census.descents:
        assert census.points[each.target].value < census.points[each.source].value
        assert census.points[each.target].index == 0  # a run passes by saddles
    # A barrier between keeping and dropping one direction: the two signs lead to either side.
    (first, second) = [x for x in census.descents if x.source == saddles[0]]
    assert (first.sign, second.sign) == (1, -1)
    assert {census.points[x.target].rank for x in (first, second)} == {1, 2}
    assert not ufm.explore(PROBLEM, jax.random.key(0), descend=False).descents


def test_a_stored_census_comes_back(census):
    stored = json.loads(dumps(census_entry(census, 1.0)))
    assert stored["problem"]["lam_hidden"] == [1e-2]
    again = read_census(PROBLEM, stored, census_arrays(census))
    for before, after in zip(census.points, again.points, strict=True):
        for name in ("params", "direction"):
            jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before, name))
    assert again.descents == census.descents
    assert again.minimum.is_exact
