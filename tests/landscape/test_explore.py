"""The census at K = 4: what has to be in it is, and every number of it is right.

Partition points and rungs of the ladder come from SciPy on f itself, indices from the whole dense
Hessian (148 dimensions at d = 6, 292 at d = 12).
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from model_oracle import columns, dense_hessian, objective_and_gradient
from scipy.optimize import minimize

import ufm
from ufm import Problem, Verdict, origin
from ufm._support.quick_jit import counted_anew
from ufm.landscape import explore
from ufm.landscape.census import Tally, search_record
from ufm.landscape.partitions import integer_partitions
from ufm.landscape.point_space import search_space

LOSSES = {"CE": ufm.CrossEntropy(), "LS": ufm.LabelSmoothing(0.1)}
EFFORT = {"starts_per_rank": 4, "root_starts": 60, "flows": 2}


def make(loss, dim: int = 6) -> Problem:
    return Problem.balanced(
        loss=loss, num_classes=4, per_class=5, dim=dim, lam_w=5e-3, lam_h=5e-3, lam_b=1e-2
    )


@functools.cache
def census_of(name: str, dim: int = 6, **changes) -> ufm.Census:
    return explore(make(LOSSES[name], dim), jax.random.key(0), **EFFORT | changes)


def lowest_by_scipy(problem: Problem, parts: tuple[int, ...], rank: int) -> float:
    """min f over W = E ω and features equal within blocks, ω with `rank` columns, by BFGS on f."""
    block = np.repeat(np.arange(len(parts)), parts)
    expand = np.eye(len(parts))[block]
    alpha = getattr(problem.loss, "alpha", 0.0)
    target = (1 - alpha) * np.eye(4) + alpha / 4
    # An entry of H stands for five equal samples.
    decays = np.array([float(problem.lam_w), 5 * float(problem.lam_h), float(problem.lam_b)])
    in_w, in_h = rank * len(parts), 2 * rank * len(parts)

    def value_and_slope(x):
        W = expand @ x[:in_w].reshape(len(parts), rank)
        H = x[in_w:in_h].reshape(rank, len(parts)) @ expand.T
        b = expand @ x[in_h:]
        V = W @ H + b[:, None]
        log_p = V - np.logaddexp.reduce(V, axis=0)
        G = (np.exp(log_p) - target) / 4
        squares = np.array([np.sum(W**2), np.sum(H**2), np.sum(b**2)])
        slope = (
            expand.T @ (G @ H.T + decays[0] * W),
            (W.T @ G + decays[1] * H) @ expand,
            expand.T @ (G.sum(axis=1) + decays[2] * b),
        )
        value = -np.sum(target * log_p) / 4 + decays @ squares / 2
        return value, np.concatenate([part.ravel() for part in slope])

    rng = np.random.default_rng(0)
    size = in_h + len(parts)
    runs = [
        minimize(value_and_slope, rng.normal(size=size), jac=True, options={"gtol": 1e-9})
        for _ in range(4)
    ]
    return min(float(run.fun) for run in runs)


@pytest.mark.repeats
@pytest.mark.parametrize("name", LOSSES)
def test_the_origin_all_partition_points_and_the_ladder_are_in_it(name):
    problem, census = make(LOSSES[name]), census_of(name)
    values = np.array([point.value for point in census.points])
    ranks = np.array([point.rank for point in census.points])
    assert np.min(np.abs(values[ranks == 0] - np.log(4.0))) < 1e-12
    for parts in integer_partitions(4):
        for rank in range(1, len(parts)):
            expected = lowest_by_scipy(problem, parts, rank)
            assert np.min(np.abs(values[ranks == rank] - expected)) < 1e-9, (parts, rank)
            if len(parts) == 4:
                assert census.ladder[rank] == pytest.approx(expected, abs=1e-9)
    assert census.partitions == census.partitions_total == 5
    assert census.is_complete_space


@pytest.mark.repeats
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dim", [6, 12])
def test_every_point_is_critical_and_its_index_is_that_of_the_dense_hessian(name, dim):
    problem, census = make(LOSSES[name], dim), census_of(name, dim)
    for point in census.points:
        value, gradient = objective_and_gradient(problem, point.params)
        assert value == pytest.approx(point.value, abs=1e-13)
        assert np.linalg.norm(gradient) <= 1e-10
        eigenvalues = np.linalg.eigvalsh(dense_hessian(problem, point.params))
        assert point.index == np.sum(eigenvalues < -1e-9)
        assert point.zero_modes == np.sum(np.abs(eigenvalues) <= 1e-9)
        assert (
            point.gauge_modes
            == point.rank * (dim - point.rank) + point.rank * (point.rank - 1) // 2
        )
        assert point.smallest == pytest.approx(eigenvalues[0], abs=1e-12)
        assert point.residual < 1e-12
        W, H = np.asarray(point.params.W), np.asarray(point.params.H)
        sizes = np.linalg.svd(W @ H, compute_uv=False)
        np.testing.assert_allclose(point.singular_values, sizes, atol=1e-9)
        assert np.sum(sizes > 1e-6) == point.rank


@pytest.mark.repeats
@pytest.mark.parametrize("name", LOSSES)
def test_all_are_strict_saddles_but_one(name):
    census = census_of(name)
    first, *others = census.points
    assert first.verdict is Verdict.GLOBAL_MINIMUM
    assert first.index == 0
    assert first.value == pytest.approx(ufm.global_minimum(census.problem).value, abs=1e-12)
    assert all(point.verdict is Verdict.STRICT_SADDLE for point in others)
    assert len(others) >= 8
    assert not census.counterexamples
    for point in others:
        assert point.escape is not None
        # The decays are equal: theory's direction is an eigenvector, and here the lowest.
        assert point.curvature == pytest.approx(point.escape, rel=1e-9)
        assert point.smallest <= point.escape + 1e-12


@pytest.mark.repeats
@pytest.mark.parametrize("name", LOSSES)
def test_in_more_dimensions_the_same_points_have_the_indices_of_theory(name):
    few, many = census_of(name), census_of(name, 12, flows=0, descend=False)
    mu = float(few.problem.mu())
    values = np.array([point.value for point in many.points])
    for point in few.points:
        same = many.points[int(np.argmin(np.abs(values - point.value)))]
        assert same.value == pytest.approx(point.value, abs=1e-11)
        of_samples = columns(few.problem, point.params)
        G = np.array([share * exact.gradient.astype(float) for share, _, exact in of_samples])
        above = np.sum(np.linalg.svd(G, compute_uv=False) > mu * (1 + 1e-9))
        assert same.index == point.index + 6 * above


@pytest.mark.repeats
@pytest.mark.parametrize("name", LOSSES)
def test_descents_go_down_and_from_every_saddle(name):
    census = census_of(name)
    for descent in census.descents:
        source, target = census.points[descent.source], census.points[descent.target]
        assert target.value < source.value
        assert target.rank <= source.rank + descent.raises_rank
    saddles = {i for i, point in enumerate(census.points) if point.index > 0}
    assert {descent.source for descent in census.descents} == saddles


@pytest.mark.repeats
@pytest.mark.parametrize("name", LOSSES)
def test_hits_add_up_and_the_root_finder_finds(name):
    census = census_of(name)
    for search in census.searches:
        hits = sum(point.hits.get(search.kind, 0) for point in census.points)
        assert hits == search.critical
        assert search.starts == search.critical + search.gradient_flat + search.unfinished
    roots = [s for s in census.searches if s.kind in ("noise", "truncation", "perturbation")]
    others = sum(s.starts - s.at_origin for s in roots)
    assert sum(s.starts for s in roots) == EFFORT["root_starts"]
    assert sum(s.critical - s.at_origin for s in roots) >= 0.95 * others


def test_the_saddles_of_mse_are_four_continua():
    # Z of rank r with r of the K−1 equal singular values of YP at 1 − Kμ√n, b at its optimum.
    problem = make(ufm.MSE())
    census = explore(
        problem, jax.random.key(0), starts_per_rank=4, root_starts=30, max_partitions=0, flows=0
    )
    root = 5**0.5
    shrunk = 1.0 - 4 * 5e-3 * root
    bias = 1.0 / (4 * (1 + 1e-2))
    constant = 0.5 * 4 * (bias - 0.25) ** 2 + 0.5 * 1e-2 * 4 * bias**2
    gain = 0.5 * (1 - (1 - shrunk) ** 2) / 4 - 5e-3 * root * shrunk
    expected = [constant + 0.5 * 3 / 4 - gain * rank for rank in (3, 2, 1, 0)]
    np.testing.assert_allclose([point.value for point in census.points], expected, atol=1e-12)
    assert [point.rank for point in census.points] == [3, 2, 1, 0]
    # Which r-dimensional part of the K−1 dimensions: r(K−1−r) zeros more than rotations force.
    extra = [point.zero_modes - point.gauge_modes for point in census.points]
    assert extra == [0, 2, 2, 0]
    assert [point.is_degenerate for point in census.points] == [False, True, True, False]


def test_a_loss_that_is_not_convex_is_searched_over_its_samples():
    problem = Problem.balanced(
        loss=ufm.Focal(3.0), num_classes=3, per_class=2, dim=4, lam_w=2e-2, lam_h=5e-3, lam_b=None
    )
    quick = {"starts_per_rank": 0, "max_partitions": 0, "flows": 0, "descend": False}
    census = explore(problem, jax.random.key(1), root_starts=40, **quick)
    assert census.is_complete_space
    assert census.points[0].verdict is Verdict.GLOBAL_MINIMUM
    assert len(census.points) >= 3
    for point in census.points:
        eigenvalues = np.linalg.eigvalsh(dense_hessian(problem, point.params))
        assert point.index == np.sum(eigenvalues < -1e-9)
        assert point.smallest == pytest.approx(eigenvalues[0], abs=1e-12)


def test_a_large_one_is_searched_over_class_means_and_says_so():
    problem = Problem.balanced(
        loss=ufm.Focal(3.0), num_classes=3, per_class=1000, dim=5,
        lam_w=1e-3, lam_h=1e-3, lam_b=0.0,
    )  # fmt: skip
    space = search_space(problem)
    assert space.of_means
    assert not space.is_complete
    assert search_space(dataclasses.replace(problem, loss=ufm.CrossEntropy())).is_complete
    point = space.embed(origin(space.small))
    assert (point.W.shape, point.H.shape) == ((3, 5), (5, 3000))


def test_good_and_turing_count_singletons():
    # Ends: one point three times, two points once each, one start nowhere, one gradient-flat.
    record = search_record("noise", [0, 0, 1, 2, 0, None, None], origin=2, flat=1)
    assert (record.starts, record.critical, record.distinct, record.singletons) == (7, 5, 3, 2)
    assert (record.gradient_flat, record.unfinished, record.at_origin) == (1, 1, 1)
    assert record.unseen == pytest.approx(2 / 5)
    assert record.hit_rate == pytest.approx(4 / 6)


def test_points_are_told_apart_by_any_number():
    tally, row = Tally(), np.array([1.0, 2.0, 3.0])
    assert tally.add(row, "noise") == (0, True)
    assert tally.add(row + 1e-8, "ladder") == (0, False)
    assert tally.add(row + np.array([0.0, 0.0, 1e-4]), "noise") == (1, True)
    assert tally.hits[0] == {"noise": 1, "ladder": 1}


@pytest.mark.slow  # test_cli_landscape.py compares the command's census with another
def test_it_can_be_repeated():
    problem, effort = make(LOSSES["CE"]), {"root_starts": 6, "flows": 0, "descend": False}
    censuses = []
    for _ in range(2):
        with counted_anew():  # runs before may have compiled what a new process has not
            censuses.append(explore(problem, jax.random.key(3), **effort))
    first, second = censuses
    assert [p.value for p in first.points] == [p.value for p in second.points]
    assert [p.hits for p in first.points] == [p.hits for p in second.points]


@pytest.mark.parametrize(
    ("changes", "effort", "message"),
    [
        ({"lam_w": 0.0}, {}, "lam_w > 0"),
        ({"class_counts": (1,) * 50, "dim": 50}, {}, "lower num_classes or dim"),
        ({}, {"root_starts": -1}, "root_starts must not be negative"),
    ],
)
def test_what_cannot_be_explored_is_refused(changes, effort, message):
    problem = dataclasses.replace(make(LOSSES["CE"]), **changes)
    with pytest.raises(ValueError, match=message):
        explore(problem, jax.random.key(0), **effort)


def test_next_to_the_collapse_threshold_small_points_are_told_apart():
    problem = make(LOSSES["CE"])  # of the shapes above
    mu = (1 - 2e-4) * float(ufm.collapse_threshold(problem).mu)
    problem = dataclasses.replace(problem, lam_w=mu, lam_h=mu)
    effort = {"starts_per_rank": 4, "root_starts": 0, "flows": 0, "descend": False}
    census = explore(problem, jax.random.key(0), **effort)
    # f differs by 1e-9 between points, Z by 1e-4 of its size; indices by LAPACK, seen alone.
    assert {(p.rank, p.index) for p in census.points} >= {
        (0, 18), (1, 12), (1, 10), (2, 6), (2, 4), (3, 0),
    }  # fmt: skip
    assert census.points[0].verdict is Verdict.GLOBAL_MINIMUM


def test_the_focal_minimum_is_recognised_from_class_means():
    rate = 1e-2 / 112**0.5
    problem = Problem.balanced(
        loss=ufm.Focal(3.0), num_classes=3, per_class=112, dim=3,
        lam_w=rate, lam_h=rate, lam_b=None,
    )  # fmt: skip
    quick = {"max_partitions": 0, "root_starts": 0, "flows": 0, "descend": False}
    census = explore(problem, jax.random.key(0), starts_per_rank=2, **quick)
    assert not census.is_complete_space
    assert census.points[0].verdict is Verdict.GLOBAL_MINIMUM
    assert census.points[0].gap < 1e-8
