"""Structured points in fewer dimensions than K − 1, with two factors."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize

import ufm
from ufm.minimum.minimiser import factorise
from ufm.minimum.structures import TableLoss, best_structure, minimum_of, structures

CE = ufm.CrossEntropy()
VALUES = [
    (4, "orthoplex", 5e-3, 0.1120030687),
    (4, "orthoplex", 5e-4, 0.0158145102),
    (5, "regular polygon", 5e-3, 0.1807451706),
    (6, "regular polygon", 5e-4, 0.0408368766),
    (8, "regular polygon", 5e-3, 0.4936425133),
    (6, "orthoplex", 5e-3, 0.1763887642),
    (8, "orthoplex", 5e-4, 0.0332453170),
    (5, "2 pairs and 1 single class", 5e-4, 0.0196114670),
    (5, "simplices of 3 + 2 classes", 5e-4, 0.0196652512),
]
#: K, d, and the values at decays 5e-3 and 5e-4 in which all of many runs end.
SPORADIC = [
    (6, 3, 0.1763887642, 0.0245823715),
    (8, 4, 0.2396607149, 0.0332453170),
    (12, 3, 0.5184090980, 0.0773599336),
    (16, 5, 0.5558908131, 0.0790324307),
    (27, 6, 0.9719758078, 0.1400693893),
    (56, 7, 2.0751738466, 0.3127421111),
]


def narrow(K, d, decay, loss=CE, n=1):
    return ufm.Problem.balanced(
        loss=loss, num_classes=K, per_class=n, dim=d, lam_w=2 * decay, lam_h=decay / 2, lam_b=None
    )


@pytest.mark.parametrize(("K", "name", "decay", "value"), VALUES)
def test_structures_have_the_values_of_polished_runs(K, name, decay, value):
    each = next(x for x in structures(K, K) if x.name == name)
    found = minimum_of(each, TableLoss(CE, K), 2, decay)
    assert found.value == pytest.approx(value, abs=6e-11)
    problem = narrow(K, each.rank, decay)
    params = factorise(problem, found.table, None, jax.random.key(0), each.rank)
    assert float(ufm.objective(problem, params)) == pytest.approx(value, abs=6e-11)
    _, gradient = jax.value_and_grad(lambda x: ufm.objective(problem, x))(params)
    assert max(float(np.abs(x).max()) for x in jax.tree.leaves(gradient)) < 1e-9


@pytest.mark.parametrize(("K", "d", "large", "small"), SPORADIC)
def test_sporadic_codes(K, d, large, small):
    """log(1 + Σ m_j e^{−R(1−c_j)}) + μ√n K R at its root, and the same singular values."""
    for decay, value in ((5e-3, large), (5e-4, small)):
        found = best_structure(K, d, TableLoss(CE, K), 2, decay)
        assert found.value == pytest.approx(value, abs=6e-11)
        s = np.linalg.svd(found.table, compute_uv=False)
        np.testing.assert_allclose(s, np.where(np.arange(K) < d, s[0], 0.0), atol=1e-9)
    R = s[0] * d / K
    cosines = np.round(found.table[0] / R, 12)
    sharp = {12: 5**-0.5, 16: 1 / 5, 27: 1 / 4, 56: 1 / 3}.get(K, 0.0)
    assert cosines[cosines < 1].max() == pytest.approx(sharp)  # the largest of optimal codes
    rest = np.exp(-R * (1 - cosines[cosines < 1]))
    assert found.value == pytest.approx(np.log1p(rest.sum()) + decay * K * R, rel=1e-13)


def test_two_minima_of_five_classes_in_three_dimensions():
    """A square pyramid is the best known point, and a triangular bipyramid a spurious minimum."""
    problem = narrow(5, 3, 5e-4)
    indices, points = {}, {}
    for each in structures(5, 3):
        found = minimum_of(each, TableLoss(CE, 5), 2, 5e-4)
        if found.rank == 3:
            params = factorise(problem, found.table, None, None, 3)
            counted = ufm.inertia(problem, params)
            indices[found.name] = (counted.negative, counted.zero)
            points[found.name] = params
    assert indices == {
        "2 pairs and 1 single class": (0, 3),
        "simplices of 3 + 2 classes": (0, 3),
    }
    minimum = ufm.global_minimum(problem)
    assert minimum.value == pytest.approx(0.0196114670, abs=6e-11)
    assert not minimum.is_exact
    params = minimum.params(jax.random.key(1))
    assert float(ufm.objective(problem, params)) == pytest.approx(minimum.value, rel=1e-12)
    # Runs end at the one or the other.
    random, beside = (
        ufm.init_params(problem, jax.random.key(2)),
        points["simplices of 3 + 2 classes"],
    )
    noise = ufm.init_params(problem, jax.random.key(3), scale=0.05)
    starts = [random, jax.tree.map(lambda x, y: x + y, beside, noise)]
    for start, value in zip(starts, (0.0196114670, 0.0196652512), strict=True):
        end = ufm.solve(problem, start, tol=1e-13)
        assert float(end.value) == pytest.approx(value, abs=6e-11)
        verdict = ufm.certify(problem, end.params).verdict
        assert verdict is not ufm.Verdict.GLOBAL_MINIMUM


def test_a_free_bias_puts_one_class_at_the_origin():
    """Six classes in the plane: a pentagon of size R, and a class that lives on its bias β."""
    decay, turn = 5e-3, 2 * np.pi * np.arange(5) / 5

    def f(x):
        R, beta = x
        pentagon = np.log(np.sum(np.exp(R * (np.cos(turn) - 1))) + np.exp(beta - R))
        return (5 * pentagon + np.log1p(5 * np.exp(-beta))) / 6 + 5 * decay * R

    expected = minimize(f, [4.0, 3.0], tol=1e-12)
    polygon = minimum_of(
        next(x for x in structures(6, 2) if x.name == "regular polygon"), TableLoss(CE, 6), 2, decay
    )
    assert expected.fun == pytest.approx(0.2344544540, abs=6e-11)
    assert expected.fun < polygon.value - 0.03
    free = ufm.Problem.balanced(
        loss=CE, num_classes=6, per_class=1, dim=2, lam_w=decay, lam_h=decay, lam_b=0.0
    )
    found = ufm.global_minimum(free)
    assert found.value == pytest.approx(expected.fun, rel=1e-9)
    assert not found.is_exact
    norms = np.sort(np.linalg.norm(found.logits, axis=0))
    assert norms[0] < 1e-6 * norms[1] == pytest.approx(1e-6 * norms[-1], rel=1e-6)
    assert np.ptp(found.bias) == pytest.approx(expected.x[1], rel=1e-5)


def test_a_structured_point_replaces_runs_that_miss_it(monkeypatch):
    monkeypatch.setattr("ufm.minimum.searched._LARGEST", 0.0)
    minimum = ufm.global_minimum(narrow(5, 2, 5e-3, n=4))
    assert minimum.value == pytest.approx(
        minimum_of(
            next(x for x in structures(5, 2) if x.name == "regular polygon"),
            TableLoss(CE, 5),
            2,
            5e-3 * 2,
        ).value,
        rel=1e-14,
    )
    assert minimum.reason.endswith("value is that of a structured point: regular polygon")
    assert not minimum.is_exact
    assert minimum.lower_bound < minimum.value
