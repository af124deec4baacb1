"""The hunt for local minima that are not global: what it must find, and what it must not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
from ufm.hessian import rotation_dimension
from ufm.landscape.hunt import attempt, examine, rate
from ufm.landscape.reproduce import one_per_class, save

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
    assert kinds == {"origin", "ETF", "classes"}
    for each in found.found:
        problem, point = each.problem, each.params
        gradient = jax.grad(lambda x, p=problem: objective(p, x))(point)
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
    assert result.explain().startswith("no local minimum that is not global: 8 tries, ")


def test_a_saddle_is_told_from_a_minimum_and_both_from_what_is_neither():
    problem = SearchSpace((CrossEntropy(), CrossEntropy()), (4,), (5, 5), (0.5, 0.5)).draw(
        jax.random.key(0)
    )
    small = ufm.class_means.reduced_problem(problem, problem.dim)
    at_origin = ufm.origin(small)
    best = ufm.minimum.frame(problem, small)
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


# Intervals ---------------------------------------------------------------------------------------


def test_intervals_end_where_the_closed_forms_say(found):
    for kind in ("origin", "simplex ETF"):
        each = next(x for x in found.found if x.kind == kind)
        ends = spurious_interval(each, 1e-6)
        curves = focal_phases(each.problem.loss.gamma, 30)
        low, high = (curves.origin, curves.tie) if kind == "origin" else (curves.tie, curves.frame)
        assert ends.lower.rate == pytest.approx(float(low), rel=1e-6)
        assert ends.upper.rate == pytest.approx(float(high), rel=1e-6)
        events = {
            "origin": ("becomes unstable", "becomes global"),
            "simplex ETF": ("becomes global", "disappears"),
        }
        assert (ends.lower.event, ends.upper.event) == events[kind]
        for end in (ends.lower, ends.upper):
            assert 0 < abs(end.inside - end.outside) <= 1e-6 * end.inside


def test_the_interval_of_dead_classes_holds_the_point_and_ends_at_no_minimum(found):
    each = next(x for x in found.found if x.dead_classes and x.rank)
    ends = spurious_interval(each, 1e-3)
    assert ends.lower.inside <= each.rate <= ends.upper.inside
    # Dead classes die no earlier than the origin is stable, and live no longer than the ETF.
    curves = focal_phases(each.problem.loss.gamma, 30)
    assert float(curves.origin) * (1 - 1e-3) < ends.lower.rate
    assert ends.upper.rate < float(curves.frame) * (1 + 1e-3)


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
    assert found_again.verdict is ufm.Verdict.LOCAL_MINIMUM
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
