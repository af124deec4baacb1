"""The predicted geometry: what matches it, what does not, and where neither can be said."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser, wide_objective
from points import BALANCED, SKEWED, gaussian, make, origin, perturbed, rescaled

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    collapse_threshold,
    compare_geometry,
    global_minimum,
    nc_metrics,
    nearest_minimiser,
)
from ufm.minimum.global_minimum import frame


def ids(value):
    return value.label() if hasattr(value, "label") else str(value)


FRAME_NC2 = (2 - 2 * (2 / 3) ** 0.5) ** 0.5


@pytest.mark.parametrize(
    ("loss", "lam_b", "kind", "nc2"),
    [
        (CrossEntropy(), 1e-2, "simplex ETF", 0.0),
        (LabelSmoothing(0.1), 0.0, "simplex ETF", 0.0),
        (MSE(), 0.0, "simplex ETF", 0.0),
        (MSE(), None, "orthogonal frame", FRAME_NC2),
        (MSE(), 0.5, "shifted frame", None),
    ],
    ids=ids,
)
def test_geometry_matches_at_the_minimum_and_only_there(loss, lam_b, kind, nc2):
    problem = make(loss, BALANCED, lam_b)
    point = perturbed(minimiser(problem), 0, 1e-7)
    match = compare_geometry(problem, point)
    assert match.kind == kind
    assert match.matches is True
    assert max(match.logit_distance, match.classifier_distance) < 1e-6
    metrics = nc_metrics(problem, point)
    assert match.nc2 == pytest.approx(float(metrics.nc2), abs=1e-6)
    assert match.nc3 == pytest.approx(0.0, abs=1e-12)
    if nc2 is not None:
        assert match.nc2 == pytest.approx(nc2, abs=1e-12)
    outside = junk_features(point)
    for elsewhere in (
        perturbed(point, 1, 0.1),
        rescaled(point, 1.1),
        Params(point.W, 1.1 * point.H, point.b),
        Params(point.W[jnp.array([1, 0, 2])], point.H, point.b),
        outside,
        gaussian(problem, 0, 1.0),
        origin(problem),
    ):
        assert compare_geometry(problem, elsewhere).matches is False
    # The logits and the classifier of that one are right; only its features are too long.
    assert compare_geometry(problem, outside).logit_distance < 1e-6


@pytest.mark.repeats
@pytest.mark.parametrize("mu", [1e-2, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-30, 1e6])
def test_comparisons_do_not_depend_on_the_units_of_the_logits(mu, scale):
    # MSE with target M is M² times MSE with target 1, in W/√M, H/√M and μ/M: an exact change of
    # variables. Just below the threshold, 1/(3√2) = 0.2357 for M = 1, all numbers are small too.
    for part in (mu, 0.23569):
        one = make(MSE(1.0, 1.0), BALANCED, None, part)
        problem = make(MSE(1.0, scale), BALANCED, None, part * scale)
        point = global_minimum(problem).params(jax.random.key(0))
        for elsewhere, expected in (
            (point, True),
            (Params(jnp.roll(point.W, 1, axis=0), point.H, None), False),
            (rescaled(point, 1.01), False),
            (origin(problem), False),
        ):
            match = compare_geometry(problem, elsewhere)
            assert match.matches is expected
            smaller = jax.tree.map(lambda x: x / scale**0.5, elsewhere)
            same = compare_geometry(one, smaller)
            for name in ("logit_distance", "classifier_distance", "penalty_distance"):
                assert getattr(match, name) == pytest.approx(getattr(same, name), abs=1e-7)


@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_nor_do_they_where_the_minimiser_is_the_origin(scale):
    one, problem = (
        make(MSE(), BALANCED, None, 0.3),
        make(MSE(1.0, scale), BALANCED, None, 0.3 * scale),
    )
    for size, expected in ((1e-3, True), (0.05, False)):
        near = gaussian(one, 0, size)
        match = compare_geometry(problem, jax.tree.map(lambda x: x * scale**0.5, near))
        same = compare_geometry(one, near)
        assert match.matches is same.matches is expected
        assert (match.kind, np.isnan(match.classifier_distance)) == ("origin", True)
        # Logits relative to f*/μ, f* = 1/2 and μ = 0.3.
        V = np.asarray(near.W @ near.H)
        assert same.logit_distance == pytest.approx(np.linalg.norm(V) * 0.3 / 0.5, rel=1e-12)
        for name in ("logit_distance", "penalty_distance"):
            assert getattr(match, name) == pytest.approx(getattr(same, name), rel=1e-9)


@pytest.mark.parametrize("below", [1e-2, 1e-4])
def test_a_small_minimiser_in_the_wrong_place_is_no_match(below):
    # CE: Kμ√n = 1 − below, ρ = log((1 − (K−1)μ√n)/(μ√n)), about K·below.
    problem = make(CrossEntropy(), BALANCED, None, (1 - below) / (3 * 2**0.5))
    point = global_minimum(problem).params(jax.random.key(0))
    assert float(global_minimum(problem).rho) == pytest.approx(3 * below, rel=2 * below)
    assert compare_geometry(problem, point).matches is True
    rolled = Params(jnp.roll(point.W, 1, axis=0), point.H, None)
    match = compare_geometry(problem, rolled)
    assert match.matches is False
    # ‖P − ΠP‖ over ‖P‖, Π a cyclic shift: √3 for K = 3.
    assert match.logit_distance == pytest.approx(3**0.5, rel=1e-9)
    for elsewhere in (origin(problem), junk_features(point), rescaled(point, 1.01)):
        assert compare_geometry(problem, elsewhere).matches is False


def test_what_rounding_decides_is_no_match():
    # Resolved to 1e-3 in float64, but not in float32, whose gradients know ρ to 1e-7 of its scale.
    problem = make(CrossEntropy(), BALANCED, None, (1 - 1e-4) / (3 * 2**0.5))
    found, single = global_minimum(problem), jnp.float32
    point = found.params(jax.random.key(0))
    assert compare_geometry(problem, point, found).matches is True
    assert compare_geometry(problem, point, found, tol=1e-12).matches is None
    narrow = jax.tree.map(lambda x: x.astype(single), point)
    assert compare_geometry(problem, narrow, found).matches is None


def test_where_two_minimisers_tie_neither_is_said_to_be_the_one():
    # γ = 3, K = 18 is the first tie (p* = 0.0575): origin and frame, at the collapse threshold.
    problem = Problem.balanced(
        loss=Focal(3.0), num_classes=18, per_class=1, dim=17, lam_w=1.0, lam_h=1.0, lam_b=None
    )
    tie = float(collapse_threshold(problem).mu)
    problem = dataclasses.replace(problem, lam_w=tie, lam_h=tie)
    found = global_minimum(problem)
    ends = origin(problem), frame(problem)
    for point in ends:
        assert float(wide_objective(problem, point)) == pytest.approx(float(found.value), rel=1e-14)
        assert compare_geometry(problem, point, found).matches is None
        assert nearest_minimiser(problem, point, found) is None
    assert found.tied
    assert "tie" in found.reason
    for factor in (1 - 1e-6, 1 + 1e-6):
        near = dataclasses.replace(problem, lam_w=tie * factor, lam_h=tie * factor)
        matches = [compare_geometry(near, point).matches for point in (origin(near), frame(near))]
        assert matches == [factor > 1, factor < 1]
    # γ = 1 has p* = 0.0432 < 1/18, and no tie.
    other = dataclasses.replace(problem, loss=Focal(1.0))
    tie = float(collapse_threshold(other).mu)
    assert not global_minimum(dataclasses.replace(other, lam_w=tie, lam_h=tie)).tied


def test_small_problems_keep_their_rank_and_kind():
    # Imbalanced MSE in other units: Z* is M times that of M = 1.
    big = global_minimum(make(MSE(1.0, 1.0), SKEWED, None))
    small = global_minimum(make(MSE(1.0, 1e-16), SKEWED, None, mu=1e-18))
    assert small.rank == big.rank
    assert global_minimum(make(MSE(1.0, 1e-9), BALANCED, 0.5, mu=1e-11)).kind == "shifted frame"


def junk_features(point: Params) -> Params:
    """Add to every feature the same vector orthogonal to all classifiers."""
    _, _, right = np.linalg.svd(np.asarray(point.W))
    return Params(point.W, point.H + jnp.asarray(right[-1])[:, None], point.b)


def test_geometry_at_the_origin_beyond_the_threshold():
    for lam_b in (None, 0.0):
        problem = make(CrossEntropy(), BALANCED, lam_b, mu=0.3)
        for point in (origin(problem), gaussian(problem, 0, 1e-5)):
            match = compare_geometry(problem, point)
            assert (match.kind, match.matches) == ("origin", True)
            assert np.isnan(match.nc2)
            assert np.isnan(match.nc3)
        assert compare_geometry(problem, gaussian(problem, 0, 0.3)).matches is False
        lonely = Params(origin(problem).W, gaussian(problem, 0, 1.0).H, origin(problem).b)
        assert compare_geometry(problem, lonely).matches is False
