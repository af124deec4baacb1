"""The limit at zero decay: against matrix square roots, a convex solver, and certified minima."""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from points import make

from ufm import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    TemperatureCE,
    global_minimum,
    zero_decay_limit,
)
from ufm.losses import ClassWeighted
from ufm.minimum.size_geometry import geometry_of

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp

RATIO_10 = (1000, 1000, 100, 100)


def least_nuclear_norm(counts, free: bool) -> float:
    """min ‖ZD^½‖_* over Z with a bias, or without, and every margin at least 1."""
    K, root = len(counts), np.sqrt(np.asarray(counts, float))
    Z, b = cp.Variable((K, K)), cp.Variable((K, 1))
    V = Z + b @ np.ones((1, K)) if free else Z
    margins = [V[k, k] - V[j, k] >= 1 for k in range(K) for j in range(K) if j != k]
    target = cp.Minimize(cp.normNuc(Z @ np.diag(root)))
    return float(cp.Problem(target, margins).solve(solver=cp.CLARABEL))


def test_ratio_10_of_four_classes():
    # Thrampoulidis et al. (2022); digits from an independent computation.
    found = zero_decay_limit(make(CrossEntropy(), RATIO_10)).geometry()
    np.testing.assert_allclose(
        found.cosine_w, [-0.4589914798, -0.3820959617, 0.0794456536], atol=1e-10
    )
    np.testing.assert_allclose(
        found.cosine_h, [-0.1946005043, -0.2660226893, -0.6485318324], atol=1e-10
    )
    assert found.ratio_w == pytest.approx(1.4125321409, abs=1e-10)
    assert found.ratio_h == pytest.approx(0.6605981025, abs=1e-10)


def test_geometry_is_that_of_matrix_square_roots():
    counts = (7, 3, 3, 1)
    limit = zero_decay_limit(make(CrossEntropy(), counts))  # λ_W = 4 λ_H
    P, root = np.eye(4) - 0.25, np.diag(np.sqrt(counts))
    gram_w, inner = (scipy.linalg.sqrtm(x).real for x in (P @ root**2 @ P, root @ P @ root))
    gram_h = np.linalg.solve(root, np.linalg.solve(root, inner.T).T)
    found = limit.geometry()
    for norms, cosines, gram in (
        (found.norm_w, found.cosine_w, gram_w / 2.0),
        (found.norm_h, found.cosine_h, gram_h * 2.0),
    ):
        sizes = np.sqrt(np.diag(gram))
        np.testing.assert_allclose(norms, sizes[[0, 3]], rtol=1e-7)
        assert cosines[1] == pytest.approx(gram[0, 3] / (sizes[0] * sizes[3]), rel=1e-7)
        assert np.isnan(cosines[[0, 2]]).all()  # one class of each of the two sizes
    assert limit.nuclear_norm == pytest.approx(np.trace(gram_w), rel=1e-7)  # singular: √eps


@pytest.mark.parametrize("counts", [(20, 5, 5, 1), (9, 2, 1)], ids=str)
@pytest.mark.parametrize("lam_b", [None, 0.0])
def test_no_matrix_with_these_margins_has_a_smaller_norm(lam_b, counts):
    limit = zero_decay_limit(make(CrossEntropy(), counts, lam_b))
    assert limit.is_exact
    assert limit.nuclear_norm == pytest.approx(
        least_nuclear_norm(counts, lam_b is not None), rel=1e-7
    )
    margins = np.diag(limit.targets)[None, :] - limit.targets
    np.testing.assert_allclose(margins[~np.eye(len(counts), dtype=bool)], 1.0)
    if lam_b is not None:  # centred over the samples: the bias has the rest
        np.testing.assert_allclose(limit.logits @ np.asarray(counts, float), 0.0, atol=1e-12)


def near(problem, q):
    """The certified minimum at μ = q √n_min/N, and the formula there."""
    counts = np.asarray(problem.class_counts)
    mu = q * counts.min() ** 0.5 / counts.sum()
    at = dataclasses.replace(problem, lam_w=mu, lam_h=mu)
    found, formula = global_minimum(at), zero_decay_limit(problem).first_order(mu)
    assert found.is_exact
    if found.bias is not None:
        shift = np.mean(found.bias - formula.bias)
        # Modulo the shift that CE and LS ignore; it is zero for MSE.
        assert np.max(np.abs(found.bias - shift - formula.bias)) <= 0.1 * np.max(
            np.abs(formula.bias)
        )
    here, there = geometry_of(at, found.logits), formula.geometry()
    angles = np.nanmax(
        np.abs(np.subtract([*here.cosine_w, *here.cosine_h], [*there.cosine_w, *there.cosine_h]))
    )
    return formula.value / found.value - 1.0, float(angles), here.ratio_w / there.ratio_w - 1.0


WEIGHTED = ClassWeighted(CrossEntropy(), jnp.asarray([0.5, 0.5, 3.0, 3.0]))


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "lam_b", "q", "value", "angle"),
    [
        # Without bias the margins' correction is of order 1/log.
        (CrossEntropy(), None, 1e-2, 8e-4, 6e-2),
        (CrossEntropy(), None, 1e-6, 3e-4, 1e-2),
        (TemperatureCE(0.5), None, 1e-6, 3e-4, 1e-2),
        (WEIGHTED, None, 1e-6, 1e-3, 3e-2),
        # With a free one and two sizes of equally many classes it is of order q.
        (CrossEntropy(), 0.0, 1e-2, 4e-4, 4e-4),
        (WEIGHTED, 0.0, 1e-4, 1e-5, 1e-2),
        # Losses with targets: of order q², and MSE without bias to rounding.
        (LabelSmoothing(0.1), None, 1e-3, 1e-7, 1e-4),
        (LabelSmoothing(0.1), 0.0, 1e-3, 1e-7, 1e-4),
        (MSE(2.0, 3.0), 0.0, 1e-2, 1e-6, 1e-5),
        (MSE(2.0, 3.0), None, 0.5, 1e-12, 1e-8),
    ],
    ids=str,
)
def test_first_order_formula_is_near_the_certified_minimum(loss, lam_b, q, value, angle):
    errors = near(make(loss, RATIO_10, lam_b), q)
    assert np.all(np.abs(errors) <= (value, angle, angle)), errors


def test_the_distance_falls_towards_the_limit():
    for loss in (CrossEntropy(), LabelSmoothing(0.1)):
        problem = make(loss, RATIO_10)
        limit = zero_decay_limit(problem)
        found = [limit.distance(limit.first_order(mu).logits) for mu in (1e-5, 1e-7, 1e-9)]
        assert found[0] > found[1] > found[2] > 0.0
        assert limit.distance(limit.logits) == 0.0
    # Limits of margins are directions; 0.1 along an orthogonal direction is 0.0995 away.
    limit = zero_decay_limit(make(CrossEntropy(), (4, 4, 4)))
    twice = 2.0 * limit.logits + 0.2 * np.linalg.norm(limit.logits) / 3.0
    assert limit.distance(twice) == pytest.approx(np.sqrt(2 - 2 / np.sqrt(1.01)), rel=1e-9)


def test_what_is_not_covered_is_refused_in_a_line():
    for loss, lam_b, said in (
        (Focal(2.0), None, "the limit of FL"),
        (BinaryCrossEntropy(), None, "the limit of BCE"),
        (MSE(), 1e-2, "with a decayed bias is not covered: set lam_b to 0"),
    ):
        with pytest.raises(ValueError, match=said):
            zero_decay_limit(make(loss, RATIO_10, lam_b))
    with pytest.raises(ValueError, match="lam_w and lam_h must be positive"):
        zero_decay_limit(make(CrossEntropy(), RATIO_10, mu=0.0))
    # A decayed bias stays bounded: the limit without one, but too far for a formula.
    decayed = zero_decay_limit(make(CrossEntropy(), RATIO_10, 1e-2))
    np.testing.assert_array_equal(
        decayed.logits, zero_decay_limit(make(CrossEntropy(), RATIO_10)).logits
    )
    with pytest.raises(ValueError, match="no first-order formula with a decayed bias"):
        decayed.first_order(1e-6)
    plain = zero_decay_limit(make(CrossEntropy(), RATIO_10))
    with pytest.raises(ValueError, match="too large for the first-order formula"):
        plain.first_order(0.1)
    with pytest.raises(ValueError, match="mu must be positive"):
        plain.first_order(0.0)
