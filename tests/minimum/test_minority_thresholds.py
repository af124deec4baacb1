"""When classes merge and vanish: against certified minima, singular values, a convex solver."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from convex_oracle import convex_minimum
from points import make

from ufm import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    TemperatureCE,
    global_minimum,
    minority_thresholds,
)
from ufm.losses import ClassWeighted
from ufm.minimum import minority_thresholds as thresholds_module
from ufm.minimum.minority_thresholds import swap_force

#: The weights differ between the classes that do not merge, and so does their size.
WEIGHTED = ClassWeighted(CrossEntropy(), jnp.asarray([0.5, 0.5, 3.0, 3.0]))


def rows(problem, event, exact_only=False):
    """(μ, low) by class size."""
    found = minority_thresholds(problem, exact_only).rows
    return {row.size: (row.mu, row.low) for row in found if row.event == event}


@pytest.mark.parametrize(
    "loss",
    [
        *(CrossEntropy(), LabelSmoothing(0.3), MSE(1.0, 3.0), BinaryCrossEntropy()),
        *(TemperatureCE(0.5), WEIGHTED),
    ],
    ids=lambda loss: loss.label(),
)
def test_the_force_between_equal_logits_does_not_depend_on_the_logits(loss):
    for seed in range(3):
        z = 4.0 * np.random.default_rng(seed).standard_normal(4)
        z[2] = z[3]
        gradient = np.asarray(loss.gradient(jnp.asarray(z), 2))
        assert gradient[3] - gradient[2] == pytest.approx(swap_force(loss, 2), rel=1e-12)


def test_where_the_force_depends_on_the_logits_there_is_none():
    assert swap_force(MSE(5.0, 1.0), 0) is None
    assert swap_force(Focal(2.0), 0) is None


@pytest.mark.repeats
@pytest.mark.parametrize("counts", [(20, 20, 2, 2), (9, 4, 4, 1)], ids=str)
@pytest.mark.parametrize("lam_b", [None, 0.0])
@pytest.mark.parametrize("loss", [CrossEntropy(), LabelSmoothing(0.1), WEIGHTED], ids=type)
def test_two_classes_merge_at_the_threshold_and_not_below(loss, lam_b, counts):
    first, second = (2, 3) if counts[2] == counts[3] else (1, 2)
    if loss is WEIGHTED:
        weights = np.where(np.asarray(counts) == counts[first], 3.0, 0.5)
        loss = ClassWeighted(CrossEntropy(), jnp.asarray(weights))
    problem = make(loss, counts, lam_b)
    mu, low = rows(problem, "merge", exact_only=True)[counts[first]]
    assert mu == low
    pair, share = [first, second], counts[first] ** 0.5 / sum(counts)
    scale = 3.0 if isinstance(loss, ClassWeighted) else 1.0
    alpha = loss.alpha if isinstance(loss, LabelSmoothing) else 0.0
    apart, tension = [], []
    for factor in (1.0 - 1e-8, 1.0 + 1e-8):
        found = global_minimum(dataclasses.replace(problem, lam_w=mu * factor, lam_h=mu * factor))
        assert found.is_exact
        apart.append(np.max(np.abs(found.logits[first] - found.logits[second])))
        V = found.logits[:, pair] + (0.0 if found.bias is None else found.bias[:, None])
        p = scipy.special.softmax(V, axis=0)[pair]
        G = scale * share * (p - (1.0 - alpha) * np.eye(2) - alpha / len(counts))
        tension.append(-0.5 * np.array([1, -1]) @ G @ np.array([1, -1]) / (mu * factor))
    # Below, the difference opens linearly in μ. Above, its block of G is less than μ: it is zero.
    assert apart[0] >= 2e-8 > apart[1]
    assert tension[1] - 1.0 == pytest.approx(-1e-8, abs=2e-9)


def test_five_large_and_five_small_classes():
    problem = make(CrossEntropy(), (500,) * 5 + (100,) * 5)
    found = minority_thresholds(problem, exact_only=True)
    assert [row.classes for row in found.rows] == [(5, 6, 7, 8, 9), (0, 1, 2, 3, 4)]
    assert found.rows[0].mu == pytest.approx(1 / 300, rel=1e-15)
    assert [row.event for row in found.rows] == ["merge", "merge"]


def test_squared_error_drops_the_singular_values_of_its_targets(monkeypatch):
    monkeypatch.setattr(thresholds_module, "_HALVINGS", 6)
    counts, samples = (4, 4, 1, 1), 10
    roots = np.sqrt(np.asarray(counts, float))
    for loss, size in ((MSE(), 1.0), (MSE(5.0, 3.0), 15.0)):
        found = rows(make(loss, counts), "vanish")  # no bias: the targets are diagonal
        assert found == {n: (pytest.approx(size * n**0.5 / samples),) * 2 for n in (1, 4)}
    weighted = make(ClassWeighted(MSE(), jnp.asarray([1.0, 1.0, 3.0, 3.0])), counts)
    found = rows(weighted, "vanish")
    assert found == {4: (pytest.approx(0.2),) * 2, 1: (pytest.approx(0.3),) * 2}
    for mu, rank in ((0.19, 4), (0.21, 2), (0.31, 0)):
        at = dataclasses.replace(weighted, lam_w=mu, lam_h=mu)
        assert global_minimum(at).rank == rank
    # A free bias centres them: two differences, and one singular value between the groups.
    centred = np.diag(roots) @ (np.eye(4) - np.outer(roots, roots) / samples)
    values = np.linalg.svd(centred, compute_uv=False) / samples
    centred_problem = make(MSE(), counts, 0.0)
    merge, vanish = rows(centred_problem, "merge", exact_only=True), rows(centred_problem, "vanish")
    np.testing.assert_allclose([merge[4][0], merge[1][0]], values[[0, 2]], rtol=1e-12)
    assert vanish[1][1] < values[1] <= vanish[1][0] < 1.1 * values[1]
    assert vanish[4] == merge[4]  # the last to go


@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_between_the_ends_of_its_bracket_a_group_vanishes(lam_b, monkeypatch):
    monkeypatch.setattr(thresholds_module, "_HALVINGS", 6)
    problem = make(CrossEntropy(), (4, 4, 1, 1), lam_b)
    found = minority_thresholds(problem)
    mu, low = found.rows[1].mu, found.rows[1].low
    assert 0.0 < mu - low < 0.1 * mu
    assert [(row.event, row.size, row.holds) for row in found.rows[:2]] == [
        ("merge", 1.0, False), ("vanish", 1.0, False)
    ]  # fmt: skip
    assert found.explain().splitlines()[1] == (
        f"the 2 classes of 1 samples have not provably vanished at μ = 0.01, from {low:.4g}–"
        f"{mu:.4g} on (bisection, proven at the upper end)"
    )
    small = []
    for at in (0.97 * low, 1.03 * mu):
        Z = convex_minimum(dataclasses.replace(problem, lam_w=at, lam_h=at)).Z
        small.append(np.max(np.abs(Z[:, 8:])))
        assert np.max(np.abs(Z[:, :8])) > 0.1  # the large classes are alive
    assert small[0] > 0.01 > 1e-4 > small[1]
    beyond = dataclasses.replace(problem, lam_w=1.03 * mu, lam_h=1.03 * mu)
    row = minority_thresholds(beyond).rows[1]
    assert (row.event, row.holds, row.mu, row.low) == ("vanish", True, mu, low)


def test_classes_of_unique_sizes_vanish_with_the_origin():
    counts = np.array([4, 2, 1])
    for lam_b in (None, 0.0):
        found = rows(make(CrossEntropy(), tuple(counts.tolist()), lam_b), "vanish")
        prior = np.full(3, 1 / 3) if lam_b is None else counts / 7
        G = (prior[:, None] - np.eye(3)) * np.sqrt(counts) / 7
        threshold = np.linalg.norm(G, 2)
        assert all(row == (pytest.approx(threshold),) * 2 for row in found.values())
        assert len(found) == 3


def test_a_scale_that_depends_on_the_logits_is_bisected(monkeypatch):
    monkeypatch.setattr(thresholds_module, "_HALVINGS", 5)
    problem = make(MSE(2.0, 1.0), (4, 4, 1, 1), 0.0)
    mu, low = rows(problem, "merge")[1]
    assert 0.0 < mu - low < 0.2 * mu
    for at, apart in ((0.97 * low, True), (1.03 * mu, False)):
        Z = convex_minimum(dataclasses.replace(problem, lam_w=at, lam_h=at)).Z
        assert (np.max(np.abs(Z[2] - Z[3])) > 1e-2) == apart


def test_what_it_says():
    problem = make(CrossEntropy(), (1000, 1000, 100, 100), mu=5e-3)
    said = minority_thresholds(problem, exact_only=True).explain().splitlines()
    assert said == [
        "the 2 classes of 100 samples have merged: μ = 0.005 ≥ 0.00454545 "
        "(√100/2200, exact for any bias and any other classes)",
        "the 2 classes of 1000 samples have not merged: μ = 0.005 < 0.014374 "
        "(√1000/2200, exact for any bias and any other classes)",
    ]
    focal = minority_thresholds(make(Focal(2.0), (4, 2, 2)))
    assert focal.rows == ()
    assert focal.explain() == ("nothing is decided: FL(γ=2) is not known to be convex with a dual")
    batch = dataclasses.replace(problem, lam_w=jnp.asarray([1e-2, 1e-3]))
    with pytest.raises(ValueError, match="call it once for each of its entries"):
        minority_thresholds(batch)
