"""The branch and bound over T for four classes and one hidden layer."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import ufm
from ufm.minimum.plane_duals import tangent_planes
from ufm.variants.deep import four_classes

K = 4
#: Four decays at which the best known point is an ETF, a square, a square close to its tie, and 0.
DECAYS = (0.005, 0.02, 0.1, 0.3)


def deep(e, loss=None, n=1):
    decay = e / n ** (1 / 3)
    return ufm.Problem.balanced(
        loss=loss or ufm.CrossEntropy(), num_classes=K, per_class=n, dim=K,
        lam_w=2 * decay, lam_h=decay, lam_b=None, lam_hidden=(0.5 * decay,),
    )  # fmt: skip


def least(T, e, alpha):
    """min over H of f at W̃ = T, by SciPy."""
    target = (1 - alpha) * np.eye(K) + alpha / K

    def at(x):
        H = x.reshape(K, K)
        Z = T @ H
        top = np.logaddexp.reduce(Z, axis=0)
        value = np.mean(top - np.sum(target * Z, axis=0)) + 0.5 * e * np.sum(H**2)
        return value, (T @ (np.exp(Z - top) - target) / K + e * H).ravel()

    return minimize(at, np.zeros(K * K), jac=True, options={"gtol": 1e-9}).fun + e * np.trace(T)


def power(T, exponent):
    sizes, axes = np.linalg.eigh(T)
    return (axes * np.maximum(sizes, 0) ** exponent) @ axes.T


def drawn(rng, size):
    """A random positive semidefinite T with T1 = 0, ordered diagonal, and rank 1, 2 or 3."""
    part = (np.eye(K) - 1 / K) @ rng.standard_normal((K, rng.integers(1, 4)))
    T = part @ part.T
    T *= size / np.trace(T)
    order = np.argsort(-np.diag(T))
    return T[np.ix_(order, order)]


def coordinates(T):
    """T = Σ y_ij (e_i − e_j)(e_i − e_j)ᵀ has the entries −y_ij beside its diagonal."""
    return -T[np.triu_indices(K, 1)]


def boxes(low, high):
    return four_classes.Boxes(low, high, np.zeros(len(low)), np.zeros(len(low), int))


@pytest.mark.repeats
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("e", DECAYS)
def test_bounds_are_below_f_in_their_boxes(e, alpha):
    """At random balanced points Z = T^{3/2}Q, whose f is g(Z) + (3/2) e tr T."""
    rng = np.random.default_rng(1)
    target = (1 - alpha) * np.eye(K) + alpha / K
    for width in (1e-3, 0.03, 0.3, 1.0):
        for _ in range(40):
            T = drawn(rng, rng.uniform(0.05, 1.0) / e)
            half = width * rng.uniform(0.2, 1.0, 6) * np.abs(T).max()
            middle = (coordinates(T) + rng.uniform(-1, 1, 6) * half)[None]
            box = boxes(middle - half, middle + half)
            assert four_classes._possible(box, 4 / e)[0]
            bound, _, _ = four_classes._bounds(box, e, alpha)
            values = []
            for turned in (False, True):
                Q = np.linalg.qr(rng.standard_normal((K, K)))[0] if turned else np.eye(K)
                Z = power(T, 1.5) @ Q
                loss = np.logaddexp.reduce(Z, axis=0) - np.sum(target * Z, axis=0)
                values.append(np.mean(loss) + 1.5 * e * np.trace(T))
            assert bound[0] <= min(values) + 1e-9


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_the_plane_is_that_of_all_corners(alpha):
    """Against the 64 corners one by one, for boxes so small that the plane is the bound."""
    rng, e = np.random.default_rng(3), 0.1
    for _ in range(20):
        T = drawn(rng, 3.0)
        half = 0.02 * rng.uniform(0.2, 1.0, 6)
        middle = coordinates(T)
        box = boxes((middle - half)[None], (middle + half)[None])
        sizes, axes = np.linalg.eigh(T)
        table = (axes * np.maximum(sizes, 0))[None, :, -3:]
        gamma, dual, _ = tangent_planes(table, e, alpha)
        corners = middle + half * np.array(list(itertools.product((-1, 1), repeat=6)))
        planes = []
        for y in corners:
            at = np.einsum("e,eij->ij", y, four_classes._PAIRS)
            planes.append(dual[0] - np.sum((at @ gamma[0]) ** 2) / (2 * e) + e * np.trace(at))
        bound, value, _ = four_classes._bounds(box, e, alpha)
        assert bound[0] == pytest.approx(min(planes), rel=1e-9, abs=1e-9)
        assert value[0] == pytest.approx(least(T, e, alpha), rel=1e-7)


def test_the_first_box_has_every_t_of_its_trace():
    rng = np.random.default_rng(2)
    y = np.array([coordinates(drawn(rng, 1.0)) for _ in range(2000)])
    assert np.max(y) <= 0.5
    assert np.min(y) >= -0.25
    assert np.max(y) > 0.45
    assert np.min(y) < -0.2


@pytest.mark.parametrize("e", DECAYS[1:3])
def test_boxes_of_the_best_point_are_never_left_out(e):
    """Each box around it is possible, for one of the orders of its classes."""
    best = ufm.global_minimum(deep(e))
    Z = np.asarray(best.logits)
    # W̃W̃ᵀ = (ZZᵀ)^{2/3} where all decays are e; T is its root.
    T = power(Z @ Z.T, 1 / 3)
    assert least(T, e, 0.0) == pytest.approx(best.value, rel=1e-8)
    order = np.argsort(-np.diag(T))
    y = coordinates(T[np.ix_(order, order)])[None]
    box = boxes(y - 1e-9, y + 1e-9)
    assert four_classes._possible(box, four_classes._largest_trace(best.value, e))[0]
    assert four_classes._bounds(box, e, 0.0)[0][0] == pytest.approx(best.value, rel=1e-6)


def test_more_boxes_give_a_higher_bound_below_the_minimum(full):
    e, value = 0.12, ufm.global_minimum(deep(0.12)).value
    most = 60_000 if full else 12_000
    found = [four_classes.lower_bound(e, 0.0, value, 1e-6, boxes) for boxes in (2_000, most)]
    assert 0 < found[0].bound < found[1].bound < value
    assert found[1].value == pytest.approx(value, abs=1e-9)
    assert most <= found[1].boxes <= most + 2 * four_classes._BATCH


def test_a_search_closes_where_the_gap_allows(full):
    gap = 0.3 if full else 0.5
    found = ufm.narrow_bound(deep(0.12, n=3), gap, 200_000)
    assert found.closed
    assert found.value - found.lower_bound <= gap


@pytest.mark.parametrize(
    "changes", [{"num_classes": 5}, {"lam_b": 0.1}, {"lam_hidden": (0.1, 0.1)}]
)
def test_other_problems_are_refused(changes):
    given: dict[str, Any] = {"num_classes": 4, "lam_b": None, "lam_hidden": (0.1,)} | changes
    problem = ufm.Problem.balanced(
        loss=ufm.CrossEntropy(), per_class=1, dim=4, lam_w=0.1, lam_h=0.1, **given
    )
    with pytest.raises(ValueError, match="with hidden layers the bound is for one layer"):
        ufm.narrow_bound(problem)
    with pytest.raises(ValueError, match="gap must be positive"):
        ufm.narrow_bound(deep(0.1), gap=0.0)
