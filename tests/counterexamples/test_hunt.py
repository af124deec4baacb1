"""The hunt for local minima that are not global: what it must find, and what it must not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

import ufm
from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    Params,
    SearchSpace,
    certify,
    dense_hessian,
    focal_phases,
    global_minimum,
    hunt,
    load_classifier,
    objective,
    spurious_interval,
)
from ufm._support.quick_jit import quick_jit
from ufm.cli.output.hunt_output import _in_words, _of_interval
from ufm.counterexamples.branch import scaled
from ufm.counterexamples.found import rate
from ufm.counterexamples.hunt import attempt, examine
from ufm.counterexamples.reproducer import one_per_class, save
from ufm.hessian import rotation_dimension

mp.dps = 30
#: The smallest K with a window of a few per cent for one γ below 10.
FOCAL = SearchSpace(
    (Focal(2.5), Focal(3.5)), num_classes=(30,), per_class=(2, 2), decay=(0.99, 1.005)
)


@pytest.fixture(scope="module")
def found() -> ufm.Hunt:
    return hunt(FOCAL, jax.random.key(0), 4)


def test_what_is_found_is_a_local_minimum_and_not_global(found):
    assert len(found.found) >= 4
    kinds = {each.kind.split()[-1] for each in found.found}
    gradient_of = quick_jit(jax.grad(objective, argnums=1))
    assert kinds == {"origin", "ETF", "classes"}
    for each in found.found:
        problem, point = each.problem, each.params
        gradient = gradient_of(problem, point)
        size = np.sqrt(sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(gradient)))
        assert max(size, each.grad_norm) <= 1e-10
        assert float(objective(problem, point)) == pytest.approx(each.value, rel=1e-13)
        # Lower is a point, not a bound.
        minimum = global_minimum(problem)
        best = minimum.params(jax.random.key(1))
        assert float(objective(problem, best)) == pytest.approx(each.lower_value, rel=1e-12)
        assert each.excess > 1e-8 * each.lower_value
        assert each.attempt in range(4)


def test_eigenvalues_are_those_of_a_dense_matrix(found):
    # Dead classes have the least symmetry; n = 2 brings deviations from the class means.
    each = next(x for x in found.found if x.dead_classes and x.rank < 28)
    assert each.problem.per_class == 2
    dense = np.linalg.eigvalsh(dense_hessian(each.problem, each.params))
    zero = np.abs(dense) < 1e-10
    assert (each.index, each.zeros) == (0, np.sum(zero))
    assert each.zeros == each.gauge_dimension == rotation_dimension(each.problem, each.params)
    assert np.min(dense[~zero]) == pytest.approx(each.smallest, rel=1e-8)
    assert each.smallest > 1e-5


def test_any_try_reruns_alone(found):
    again = attempt(FOCAL, jax.random.key(0), 2)
    first = found.attempts[2]
    assert [x.value for x in again.found] == [x.value for x in first.found]
    assert float(again.problem.lam_w) == float(first.problem.lam_w)
    assert again.points == first.points
    other = attempt(FOCAL, jax.random.key(1), 2)
    assert float(other.problem.lam_w) != float(first.problem.lam_w)


def test_every_point_is_counted_once(found):
    for each in found.attempts:
        assert each.lowest + each.saddles + each.undecided <= each.points
        assert each.lowest >= 1
    assert found.points == sum(each.points for each in found.attempts)
    words = found.explain()
    assert words.startswith(f"{len(found.found)} local minima that are not global, in ")
    assert "4 tries" in words


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("losses", "lam_b"),
    [
        ((CrossEntropy(), CrossEntropy()), None),
        ((MSE(0.5, 0.5), MSE(5.0, 3.0)), 0.0),
        ((Focal(2.0), Focal(4.0)), None),  # 1/K > p*(γ): its transition is continuous
    ],
    ids=["CE", "MSE", "FL"],
)
def test_none_where_there_is_none(losses, lam_b):
    space = SearchSpace(losses, num_classes=(4,), per_class=(1, 6), decay=(0.2, 1.3), lam_b=lam_b)
    result = hunt(space, jax.random.key(0), 8)
    assert not result.found
    assert result.undecided == 0
    assert result.saddles >= 4
    assert result.explain().startswith("no local minimum that is not global in any of 8 tries; ")


def test_a_saddle_is_told_from_a_minimum_and_both_from_what_is_neither():
    problem = SearchSpace((CrossEntropy(), CrossEntropy()), (4,), (5, 5), (0.5, 0.5)).draw(
        jax.random.key(0)
    )
    small = ufm.model.class_means.reduced_problem(problem, problem.dim)
    at_origin = ufm.origin(small)
    best = ufm.minimum.global_minimum.frame(problem, small)
    result = examine(problem, [("origin", at_origin), ("frame", best)])
    assert (result.lowest, result.saddles, result.undecided) == (1, 1, 0)


def test_with_a_trained_bias_collapse_need_not_be_global():
    # (K−1)μ√n > 1, where no bound reaches the best symmetric value: the search finds a point below.
    focal = Focal(3.0)
    space = SearchSpace((focal, focal), (30,), (1, 10), (0.99, 1.005), lam_b=1e-2)
    problem = space.draw(jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[0])
    found = attempt(space, jax.random.key(0), 0).found
    assert 29 * rate(problem) > 1
    assert {"origin", "simplex ETF"} <= {each.kind for each in found}
    best = float(ufm.symmetric_minimum(problem).value)
    lower = found[0].lower_value
    assert lower < best - 5e-6
    minimum = global_minimum(problem)
    assert not minimum.is_exact
    assert minimum.lower_bound < lower


# Intervals: the ends against their definitions in 30 digits ---------------------------------------


def _dead_classes(gamma, classes, dead):
    """x = μ√n of a simplex ETF of the L live classes by its margin ρ, and its curve σ − μ.

    Logits of live samples: (1 − 1/L)ρ, −ρ/L for other live classes, 0 for dead ones; of dead
    samples 0. σ is the singular value of G on the span of the ones on live and on dead classes.
    """
    K, L, m, g = (mpf(x) for x in (classes, classes - dead, dead, gamma))

    def softmax(rho):
        own, other = mp.exp(rho * (1 - 1 / L)), mp.exp(-rho / L)
        total = own + (L - 1) * other + m
        return own / total, other / total, 1 / total

    def loss(rho):
        p = softmax(rho)[0]
        return -((1 - p) ** g) * mp.log(p)

    def steepness(p):  # of (1 − e^{−ℓ})^γ ℓ in ℓ
        return (1 - p) ** g * (1 - g * p * mp.log(p) / (1 - p))

    def rate(rho):
        return -L / K * mp.diff(loss, rho) / (L - 1)

    def gap(rho):
        p, other, dying = softmax(rho)
        live, rest, cross = steepness(p), steepness(1 / K), mp.sqrt(m * L)
        G = mp.matrix(
            [
                [live * (p - 1 + (L - 1) * other), cross * rest / K],
                [cross * live * dying, rest * (m / K - 1)],
            ]
        )
        return max(mp.svd_r(G / K, compute_uv=False)) - rate(rho)

    return rate, gap


def _fold(rate):
    """The margin at which x is largest, and the two branches meet."""
    return mp.findroot(lambda r: mp.diff(rate, r), mpf(1))


def _point(gamma, classes, dead, x):
    """The point above with one sample in each class, found by the margin that belongs to x."""
    live, loss = classes - dead, Focal(gamma)
    rate, _ = _dead_classes(gamma, classes, dead)
    rho = float(mp.findroot(lambda r: rate(r) - x, (_fold(rate), mpf(9)), solver="anderson"))
    problem = ufm.Problem.balanced(
        loss=loss, num_classes=classes, per_class=1, dim=classes - 1, lam_w=x, lam_h=x, lam_b=None
    )
    frame = ufm.collapse.metrics.simplex_basis(live) * rho**0.5
    W = np.zeros((classes, classes - 1))
    W[:live, : live - 1] = frame
    means = Params(jnp.asarray(W), jnp.asarray(W.T), None)
    return ufm.counterexamples.hunt.SpuriousMinimum(
        problem, means, 0.0, 0.0, "", 0.0, 0, 0, 0, 0.0, live - 1, dead, ""
    )


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("classes", "dead", "start", "known"),
    [(30, 1, 0.0412, 0), (50, 1, 0.0238, 0.0233500020978), (50, 2, 0.0238, 0)],
)
def test_intervals_of_dead_classes_in_thirty_digits(classes, dead, start, known):
    rate, gap = _dead_classes(3, classes, dead)
    ends = spurious_interval(_point(3.0, classes, dead, start), 1e-9)
    lower = mp.findroot(gap, (fold := _fold(rate), mpf(9)), solver="anderson")
    for end, exact in ((ends.lower, rate(lower)), (ends.upper, rate(fold))):
        assert abs(end.rate / float(exact) - 1) <= max(end.error, 1e-15)
        assert end.error < 1e-11
    assert (ends.lower.event, ends.upper.event) == ("becomes unstable", "disappears")
    if known:
        assert ends.lower.rate == pytest.approx(known, rel=1e-11)
    # Where and how an interval ends does not depend on what is asked.
    again = spurious_interval(_point(3.0, classes, dead, start), 0.5)
    for mine, theirs in ((again.lower, ends.lower), (again.upper, ends.upper)):
        assert mine.event == theirs.event
        assert mine.rate == pytest.approx(theirs.rate, rel=1e-14)


def test_intervals_end_where_the_closed_forms_say(found):
    for kind in ("origin", "simplex ETF"):
        each = next(x for x in found.found if x.kind == kind)
        ends = spurious_interval(each, 1e-9)
        curves = focal_phases(each.problem.loss.gamma, 30)
        low, high = (curves.origin, curves.tie) if kind == "origin" else (curves.tie, curves.frame)
        assert ends.lower.rate == pytest.approx(float(low), rel=1e-13)
        assert ends.upper.rate == pytest.approx(float(high), rel=1e-13)
        events = {
            "origin": ("becomes unstable", "becomes global"),
            "simplex ETF": ("becomes global", "disappears"),
        }
        assert (ends.lower.event, ends.upper.event) == events[kind]
        for end in (ends.lower, ends.upper):
            assert 0 < abs(end.inside - end.outside) <= 1e-12 * end.inside
        assert ends.lower.inside < each.rate < ends.upper.inside


def test_a_point_that_loses_rank_ends_where_the_one_of_lower_rank_changes_stability(found):
    # Dead classes that share a feature, opposite to the mean of the others, until it is none.
    near = [x for x in found.found if x.rank == 30 - x.dead_classes and 5 < x.dead_classes < 13]
    pairs = ((x, spurious_interval(x, 1e-9)) for x in near)
    # The point merges there, and rounding decides whether rank or stability is lost first.
    each, ends = next((x, ends) for x, ends in pairs if ends.upper.event == "loses rank")
    rate, gap = _dead_classes(float(each.problem.loss.gamma), 30, each.dead_classes)
    ends_of_gap = (_fold(rate), mpf(9))
    exact = float(rate(mp.findroot(gap, ends_of_gap, solver="anderson")))
    assert abs(ends.upper.rate / exact - 1) <= ends.upper.error < 1e-11


def test_an_end_that_is_not_reached_is_no_number(found, monkeypatch):
    each = next(x for x in found.found if x.kind == "origin")
    monkeypatch.setattr("ufm.counterexamples.interval._FARTHEST", 1.0001)
    ends = spurious_interval(each)
    assert not ends.lower.reached
    assert np.isnan(ends.lower.rate)
    assert (ends.lower.outside, ends.lower.event) == (0.0, "not reached")
    assert ends.lower.inside <= each.rate / 1.0001
    assert ends.is_accurate
    words = _in_words(ends)
    assert f"in (at most {ends.lower.inside:.4g}, " in words
    assert "below it was not followed further" in words
    assert _of_interval(ends)["interval"]["lower"] is None


def test_what_lies_below_the_symmetric_points_is_not_followed(found):
    # At a decay where the frame is lower than the origin, as in the hunt with a trained bias.
    each = next(x for x in found.found if x.kind == "simplex ETF")
    curves = focal_phases(each.problem.loss.gamma, 30)
    factor = float(curves.tie) * (1 - 1e-3) / each.rate
    problem = scaled(each.problem, factor)
    moved = dataclasses.replace(each, problem=problem, means=_frame_of(problem))
    with pytest.raises(ValueError, match="the value is below those of the symmetric points"):
        spurious_interval(moved)
    factor = float(curves.origin) * (1 - 1e-3) / each.rate
    origin = next(x for x in found.found if x.kind == "origin")
    low = dataclasses.replace(origin, problem=scaled(each.problem, factor))
    with pytest.raises(ValueError, match="not a local minimum at its own decay"):
        spurious_interval(low)


def _frame_of(problem):
    return ufm.minimum.global_minimum.frame(
        problem, ufm.model.class_means.reduced_problem(problem, problem.dim)
    )


def test_an_accuracy_that_is_none_is_refused(found):
    with pytest.raises(ValueError, match="accuracy must be in"):
        spurious_interval(found.found[0], 0.0)


# Reproducing files -------------------------------------------------------------------------------


def test_the_file_says_the_same_with_one_sample_in_each_class(found, tmp_path):
    each = next(x for x in found.found if x.kind == "simplex ETF")
    save(each, tmp_path / "found.npz")
    layer = load_classifier(tmp_path / "found.npz")
    assert layer.problem.class_counts == (1,) * 30
    assert layer.problem.dim == 29
    assert not layer.lam_h_inferred
    assert rate(layer.problem) == pytest.approx(each.rate, rel=1e-14)
    found_again = certify(layer.problem, layer.params)
    # All samples lie where the loss is convex, and no point there is lower.
    assert found_again.verdict is ufm.Verdict.MINIMUM_ON_CONVEX_REGION
    assert float(found_again.value) == pytest.approx(each.value, rel=1e-13)
    assert global_minimum(layer.problem).value == pytest.approx(each.lower_value, rel=1e-13)
    assert list(tmp_path.iterdir()) == [tmp_path / "found.npz"]


def test_a_square_layer_gets_a_dimension_to_spare(found):
    each = dataclasses.replace(
        found.found[0],
        problem=dataclasses.replace(found.found[0].problem, dim=30),
        means=Params(jnp.ones((30, 30)), jnp.ones((30, 30)), None),
    )
    problem, point = one_per_class(each)
    assert problem.dim == 31
    assert point.W.shape == (30, 31)
    assert float(jnp.sum(jnp.abs(point.W[:, 30]))) == 0.0


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": (CrossEntropy(), MSE())}, "two of one family"),
        ({"num_classes": (1,)}, "num_classes must list numbers of at least 2"),
        ({"decay": (1.0, 0.5)}, "decay must be two positive numbers, ascending, got 1.0 0.5"),
        ({"ratio": (0.0, 1.0)}, "ratio must be two positive numbers"),
    ],
)
def test_what_is_no_search_space_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**changes)


def test_there_has_to_be_a_try():
    with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
        hunt(FOCAL, jax.random.key(0), 0)
