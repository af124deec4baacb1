"""Spectra where theory knows the point, against dense matrices; along a run, against LAPACK."""

import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.linalg
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, gaussian, make

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    extremal_eigenpairs,
    global_minimum,
    init_params,
    origin,
    saddle,
    spectrum,
    spectrum_along,
)
from ufm.cli.output.spectrum_output import conclusions
from ufm.model.class_means import reduced_problem
from ufm.runs.trajectory import trajectory
from ufm.spectra.at_points import SpectrumRecord, class_means_at, escape_curvature


def eigenvalues(problem, params) -> np.ndarray:
    return np.linalg.eigvalsh(dense_hessian(problem, params))


def eigenvalues_modulo_rotations(problem, params) -> np.ndarray:
    """On the complement of the rotations' directions (WΩ, −ΩH, 0), up to 1e-6 of their size."""
    W, H, d = np.asarray(params.W), np.asarray(params.H), problem.dim
    turns = [np.outer(e, f) - np.outer(f, e) for e, f in itertools.combinations(np.eye(d), 2)]
    tangents = [np.concatenate([(W @ t).ravel(), -(t @ H).ravel(), np.zeros(3)]) for t in turns]
    rest = scipy.linalg.null_space(np.array(tangents), rcond=1e-6)
    return np.linalg.eigvalsh(rest.T @ dense_hessian(problem, params) @ rest)


@pytest.mark.parametrize("counts", [BALANCED, SKEWED], ids=["balanced", "imbalanced"])
@pytest.mark.parametrize("loss", [CrossEntropy(), MSE()], ids=["CE", "MSE"])
def test_every_eigenvalue_at_the_minimum_and_at_the_origin(loss, counts):
    problem = make(loss, counts, lam_b=1e-2)
    points = {
        "minimum": global_minimum(problem).params(jax.random.key(3)),
        "origin": origin(problem),
    }
    for at, point in points.items():
        found = spectrum(problem, at=at)
        dense = eigenvalues(problem, point)
        assert found.complete
        np.testing.assert_allclose(found.expand(), dense, atol=2e-9 * np.max(dense))
        assert found.note.endswith(f"at the {at}")


def test_what_is_not_proven_is_not_called_the_minimum():
    found = spectrum(make(Focal(3.0), SKEWED, lam_b=1e-2))
    assert "not proven minimal" in found.note
    assert found.definite_modulo_gauge


def test_a_dimension_too_small_for_the_simplex():
    problem = make(CrossEntropy(), lam_b=1e-2, dim=1)
    found = spectrum(problem)
    assert "not proven minimal" in found.note
    assert found.dimension == problem.num_parameters


def test_the_escape_curvature_is_a_rayleigh_quotient():
    problem = make(CrossEntropy(), SKEWED, lam_b=1e-2)
    small, (means, _) = reduced_problem(problem, 4), class_means_at(problem, "origin")
    # At the origin of CE, G has the columns (p − e_k)/N.
    p = np.exp(np.asarray(means.b)) / np.sum(np.exp(np.asarray(means.b)))
    G = np.repeat(p[:, None] - np.eye(3), SKEWED, axis=1) / sum(SKEWED)
    top, mu = np.linalg.norm(G, 2), 1e-2
    total = float(problem.lam_w + problem.lam_h)
    found = escape_curvature(small, means)
    np.testing.assert_allclose(found, -2 * (top - mu) * mu / total, rtol=1e-12)
    assert spectrum(problem, at="origin").eigenvalues[0] <= found
    assert escape_curvature(small, class_means_at(problem, "minimum")[0]) is None


def test_no_escape_is_promised_where_no_dimension_is_free():
    problem = make(CrossEntropy(), lam_b=1e-2, dim=2)
    point = init_params(problem, jax.random.key(0))  # rank 2
    assert escape_curvature(problem, point) is None


def test_along_a_run_against_lapack():
    problem = make(CrossEntropy(), lam_b=1e-2)
    path = trajectory(problem, init_params(problem, jax.random.key(0)), num_points=4)
    seen = []
    found = spectrum_along(problem, path, lambda: seen.append(1))
    assert len(seen) == len(found.step) == 4
    assert found.reliable
    for i in range(4):
        dense = eigenvalues_modulo_rotations(problem, path.point(i))
        assert found.rotations[i] == problem.num_parameters - len(dense)
        assert found.negative[i] == np.sum(dense < -found.zero_tol)
        assert found.positive[i] == np.sum(dense > found.zero_tol)
        assert found.zero[i] == len(dense) - found.negative[i] - found.positive[i]
        assert abs(found.smallest[i] - dense[0]) <= found.error[i] + 1e-12
        assert abs(found.largest[i] - dense[-1]) <= found.error[i] + 1e-12
    np.testing.assert_array_equal(found.value, path.value)
    assert found.negative[0] > 0
    assert found.negative[-1] == 0
    assert found.zero[-1] == 0
    assert found.rotations[0] == 4 * 3 / 2
    assert found.rotations[-1] == 2 * (4 - 2) + 1  # the orbit of a frame of rank 2


def test_a_search_that_ended_early_says_so_wherever_it_is_shown(monkeypatch):
    problem = make(MSE(5.0, 3.0), (2,) * 4, 1e-2, dim=5)
    point = gaussian(problem, 1, 1.0)
    assert (
        "WARNING" not in conclusions(SpectrumRecord(problem, spectrum(problem, point, "dense")))[0]
    )
    hasty = functools.partial(extremal_eigenpairs, max_products=8)
    monkeypatch.setattr("ufm.hessian.spectrum.extremal_eigenpairs", hasty)
    found = spectrum(problem, point, "lanczos", count=4)
    assert not found.converged
    assert "NOT CONVERGED" in repr(found)
    assert conclusions(SpectrumRecord(problem, found))[0].startswith("WARNING: not converged")
    monkeypatch.setattr("ufm.certificates.escape.extremal_eigenpairs", hasty)
    assert "NOT CONVERGED" in repr(saddle(problem, point, jax.random.key(0)))
