"""Local minima: claimed where all curvatures say so, spurious ones included, and nowhere else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser, newton
from model_oracle import dense_hessian
from points import BALANCED, BIASES, SKEWED, gaussian, make, origin

import ufm
from ufm import (
    MSE,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Reason,
    Verdict,
    certify,
    collapse_threshold,
    focal_phases,
    global_minimum,
    init_params,
    solve,
)
from ufm.certificates.second_order import all_positive, is_local_minimum
from ufm.minimum.global_minimum import frame


def focal(fraction: float) -> Problem:
    """Decay a fraction of the one at which the origin and the simplex ETF tie."""
    problem = make(Focal(3.0), (1,) * 20, None, dim=20, ratio=1.0)
    mu = fraction * float(collapse_threshold(problem).mu)
    return dataclasses.replace(problem, lam_w=mu, lam_h=mu)


def test_the_spurious_origin_of_the_focal_loss_is_a_local_minimum():
    problem = focal(0.9995)
    point = origin(problem)
    assert np.linalg.eigvalsh(dense_hessian(problem, point))[0] > 3e-5
    found = certify(problem, point)
    assert found.verdict is Verdict.LOCAL_MINIMUM
    assert found.reason is Reason.ALL_CURVATURES_POSITIVE
    # Spurious: the simplex ETF is lower, by what the certificate leaves open.
    minimum = global_minimum(problem)
    assert minimum.kind == "simplex ETF"
    assert float(found.gap) == pytest.approx(float(found.value) - minimum.value, rel=1e-6)
    assert float(found.gap) > 1e-4
    assert "a lower value elsewhere is not excluded" in found.explain()


def test_so_is_what_a_solver_leaves_of_it():
    problem = focal(0.9995)
    found = certify(problem, gaussian(problem, 0, 1e-15))
    assert (found.verdict, found.reason) == (Verdict.LOCAL_MINIMUM, Reason.ALL_CURVATURES_POSITIVE)


def test_below_its_spinodal_the_origin_of_the_focal_loss_is_a_saddle():
    problem = focal(0.9)
    point = origin(problem)
    lowest = np.linalg.eigvalsh(dense_hessian(problem, point))[0]
    found = certify(problem, point)
    assert found.verdict is Verdict.STRICT_SADDLE
    assert float(found.escape.curvature) == pytest.approx(lowest, rel=1e-9)
    assert not is_local_minimum(problem, point, 0.0)


# Two wells ---------------------------------------------------------------------------------------


def tilted_wells(z, label):
    """The label's logit in a double well, lower on the right; the others in a bowl."""
    others = jnp.sum(z**2) - z[label] ** 2
    return (z[label] ** 2 - 1.0) ** 2 - 0.1 * z[label] + 0.5 * others


def wells_alone(z, label):
    return (z[label] ** 2 - 1.0) ** 2 - 0.1 * z[label]


def well(fn, signs) -> tuple[Problem, Params]:
    """Two classes of one sample in three dimensions, every sample in the well of its sign."""
    problem = Problem(CustomLoss(fn), (1, 1), 3, 1e-2, 1e-2, None)
    frame = jnp.eye(2, 3)
    point = Params(frame * jnp.array(signs)[:, None], frame.T, None)
    return problem, solve(problem, point, tol=1e-14).params


def dense(problem: Problem, point: Params) -> np.ndarray:
    """The Hessian by differences of NumPy's objective, for a loss the oracles do not know."""

    def value(x: np.ndarray) -> float:
        W, H = x[:6].reshape(2, 3), x[6:].reshape(3, 2)
        own = np.diag(W @ H)
        bowl = np.sum((W @ H) ** 2) - np.sum(own**2) if problem.loss.fn is tilted_wells else 0.0
        return np.mean((own**2 - 1) ** 2 - 0.1 * own) + bowl / 4 + 0.005 * np.sum(x**2)

    x, h, eye = np.concatenate([np.ravel(point.W), np.ravel(point.H)]), 1e-4, np.eye(12)
    return np.array(
        [
            [
                sum(s * t * value(x + h * (s * a + t * b)) for s in (1, -1) for t in (1, -1))
                / (4 * h**2)
                for a in eye
            ]
            for b in eye
        ]
    )


def test_every_well_is_a_local_minimum_and_none_is_called_global():
    values = []
    for signs in ((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)):
        problem, point = well(tilted_wells, signs)
        assert np.all(np.sign(np.diag(np.asarray(point.W @ point.H))) == signs)
        spectrum = np.linalg.eigvalsh(dense(problem, point))
        # Rank 2 of 3: 2·1 + 1 rotations, found by differences to 1e-6.
        np.testing.assert_allclose(spectrum[:3], 0.0, rtol=0, atol=1e-6)
        assert spectrum[3] > 1e-3
        found = certify(problem, point)
        assert found.verdict is Verdict.LOCAL_MINIMUM
        assert found.reason is Reason.ALL_CURVATURES_POSITIVE
        values.append(float(found.value))
    assert values[0] < values[1] - 0.05 < values[2] - 0.1


def test_flat_directions_other_than_rotations_forbid_the_claim():
    # Without the bowl the logits off the diagonal cost nothing but decay, to which many choices
    # are the same: more zeros than rotations.
    problem, point = well(wells_alone, (1.0, 1.0))
    spectrum = np.linalg.eigvalsh(dense(problem, point))
    assert np.sum(np.abs(spectrum) < 1e-6) > 3
    assert certify(problem, point).verdict is Verdict.UNDECIDED


# Convex losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize("loss", [CrossEntropy(), MSE()])
def test_minima_and_saddles_of_convex_losses(loss, lam_b):
    problem = make(loss, BALANCED, lam_b)
    point = minimiser(problem)
    assert is_local_minimum(problem, point, 1e-15)
    assert not is_local_minimum(problem, newton(problem, origin(problem)), 1e-15)
    # A gradient that leaves room for a different critical point, or for none.
    assert not is_local_minimum(problem, point, 1e-2)


def test_what_is_too_large_to_count_is_not_claimed(monkeypatch):
    problem = make(CrossEntropy(), SKEWED, None)
    point = minimiser(problem)
    # A matrix decides where no symmetry of classes helps, and if it is too large, counts.
    monkeypatch.setattr("ufm.hessian.class_symmetric_spectrum", lambda *_: None)
    assert is_local_minimum(problem, point, 1e-15)
    monkeypatch.setattr("ufm.certificates.second_order._LARGEST_MEANS", 10)
    assert is_local_minimum(problem, point, 1e-15)
    monkeypatch.setattr("ufm.certificates.second_order._LARGEST_BORDER", 10)
    assert not is_local_minimum(problem, point, 1e-15)


# By structure ------------------------------------------------------------------------------------


def test_both_minima_of_a_hundred_classes_are_decided():
    problem = make(Focal(3.0), (1,) * 100, None, mu=0.0114, dim=99, ratio=1.0)
    for point in (origin(problem), frame(problem)):
        assert is_local_minimum(problem, point, 1e-15)
    # Just below its stability the origin has (K−1)d directions down, there zeros.
    stable = float(focal_phases(3.0, 100).origin)
    for factor in (1.0 - 1e-3, 1.0):
        here = dataclasses.replace(problem, lam_w=stable * factor, lam_h=stable * factor)
        assert not is_local_minimum(here, origin(here), 0.0)


@pytest.mark.parametrize("limit", [10, 1_500], ids=["counts", "matrix"])
def test_zeros_that_no_rotation_explains_are_not_positive(limit, monkeypatch):
    monkeypatch.setattr("ufm.certificates.second_order._LARGEST_MEANS", limit)
    monkeypatch.setattr("ufm.hessian.class_symmetric_spectrum", lambda *_: None)
    problem = make(CrossEntropy(), (2,) * 4, None, mu=1 / (4 * 2**0.5), dim=5)
    assert not is_local_minimum(problem, origin(problem), 0.0)
    above = dataclasses.replace(problem, lam_w=problem.lam_w * 1.01)
    assert is_local_minimum(above, origin(above), 0.0)


def test_a_negative_eigenvalue_is_no_zero_of_a_rotation():
    # Away from critical points rotations curve too: one of them must not hide a way down.
    problem = make(CrossEntropy(), BALANCED, None)
    found = ufm.spectrum(problem, minimiser(problem))
    assert all_positive(found, 1e-8)
    turned = dataclasses.replace(found, eigenvalues=found.eigenvalues.copy())
    turned.eigenvalues[0] = -1.0
    assert turned.multiplicities[0] == turned.gauge_dimension
    assert not all_positive(turned, 1e-8)
    assert not all_positive(dataclasses.replace(found, complete=False), 1e-8)
    assert not all_positive(dataclasses.replace(found, residuals=found.residuals + 1.0), 1e-8)


def test_samples_of_a_class_in_different_wells():
    # Features that differ within a class: nothing but exact counts applies.
    problem = Problem(CustomLoss(tilted_wells), (2, 1), 3, 1e-2, 1e-2, None)
    H = jnp.array([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    point = solve(problem, Params(jnp.eye(2, 3), H, None), tol=1e-14).params
    own = np.asarray(point.W @ point.H)[0]
    assert own[0] > 0.5 > -0.5 > own[1]
    spectrum = np.linalg.eigvalsh(ufm.dense_hessian(problem, point))
    np.testing.assert_allclose(spectrum[:3], 0.0, rtol=0, atol=1e-12)
    assert spectrum[3] > 1e-3
    assert certify(problem, point).verdict is Verdict.LOCAL_MINIMUM


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "counts", "lam_b"),
    [
        (LabelSmoothing(0.1), BALANCED, None),
        (CrossEntropy(), SKEWED, 0.0),
        (CrossEntropy(), SKEWED, 1e-2),
    ],
)
def test_ordinary_runs_never_end_against_the_theory(loss, counts, lam_b):
    for mu in (1e-4, 1e-2, 1e-1, 1.0):
        for seed, scale in ((0, 0.1), (1, 1.0)):
            problem = make(loss, counts, lam_b, mu)
            end = solve(problem, init_params(problem, jax.random.key(seed), scale)).params
            found = certify(problem, end)
            assert found.reason is not Reason.LOCAL_AGAINST_THEORY
            assert found.verdict is Verdict.GLOBAL_MINIMUM
