"""Softmax codes: distances to hulls by a convex solver, and no random code is better."""

import numpy as np
import pytest
from scipy.optimize import nnls

import ufm

CODES = [(2, 1), (4, 3), (4, 5), (5, 3), (6, 4), (6, 3), (4, 2), (6, 2), (9, 2), (12, 3), (16, 5)]


def to_hull(points, k):
    """The distance of point k from the hull of the others: weights ≥ 0 of sum 1 by a penalty."""
    rest, large = np.delete(points, k, axis=0), 1e4
    A = np.vstack([rest.T, np.full(len(rest), large)])
    weights, _ = nnls(A, np.append(points[k], large))
    return np.linalg.norm(points[k] - rest.T @ (weights / weights.sum()))


@pytest.mark.parametrize(("K", "d"), CODES)
def test_points_have_the_margin(K, d):
    code = ufm.softmax_code(K, d)
    assert code.points.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(code.points, axis=1), 1.0, rtol=1e-12)
    distances = [to_hull(code.points, k) for k in range(K)]
    assert min(distances) == pytest.approx(code.margin, abs=1e-7)
    assert code.margin <= code.bound
    assert code.is_exact == (code.margin == code.bound)


def test_known_margins():
    assert [ufm.softmax_code(K, 2).margin for K in (4, 6, 10)] == pytest.approx(
        [1.0, 0.5, 1 - np.cos(np.pi / 5)], rel=1e-14
    )
    assert [ufm.softmax_code(*x).margin for x in ((12, 3), (16, 5), (27, 6), (56, 7))] == (
        pytest.approx([1 - 5**-0.5, 4 / 5, 3 / 4, 2 / 3], rel=1e-12)
    )


@pytest.mark.parametrize(("K", "d"), [(4, 3), (5, 3), (7, 2)])
def test_no_code_nearby_is_better_than_an_exact_one(K, d):
    code, rng = ufm.softmax_code(K, d), np.random.default_rng(0)
    for size in (0.01, 0.1, 1.0) * 30:
        other = code.points + size * rng.standard_normal((K, d))
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        assert min(to_hull(other, k) for k in range(K)) <= code.margin + 1e-7


@pytest.mark.parametrize(
    ("K", "d", "message"),
    [
        (1, 2, "num_classes"),
        (3, 0, "dim"),
        (3, 1, "two unit vectors"),
        (7, 3, "no softmax code is known for num_classes=7 and dim=3"),
    ],
)
def test_numbers_without_a_code_are_refused(K, d, message):
    with pytest.raises(ValueError, match=message):
        ufm.softmax_code(K, d)
