"""Exact histograms and brackets of eigenvalues, against dense Hessians in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, gaussian, make, origin

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    Problem,
    eigenvalue_bracket,
    eigenvalue_histogram,
    inertia,
    spectrum,
)
from ufm.hessian.counts import arrow

#: d above, at and below K, so that blocks have lone dimensions or none.
PROBLEMS = [
    make(CrossEntropy(), SKEWED, 1e-2, dim=4),
    make(Focal(3.0), BALANCED, None, dim=3),
    make(MSE(5.0, 3.0), SKEWED, 0.0, dim=2),
    Problem(
        CrossEntropy(), SKEWED, 4, 2e-2, 5e-3, 1e-2, jnp.array([1.0, 3.0, 2.0, 1.0, 4.0, 2.0, 0.5])
    ),
]
every_problem = pytest.mark.parametrize(
    "problem", PROBLEMS, ids=lambda p: f"{p.loss.label()}, d={p.dim}, {p.column_weights is None}"
)


def spectrum_of(problem, point) -> np.ndarray:
    return np.linalg.eigvalsh(dense_hessian(problem, point))


@every_problem
def test_histograms_are_exact(problem):
    for scale in (0.1, 1.0, 4.0):
        point = gaussian(problem, 2, scale)
        spectrum = spectrum_of(problem, point)
        edges = np.linspace(spectrum[0] - 0.01, spectrum[-1] * 0.9, 41) + 1e-5
        found = eigenvalue_histogram(problem, point, edges)
        assert found.reliable
        np.testing.assert_allclose(found.edges, edges, rtol=0, atol=1e-7)
        np.testing.assert_array_equal(found.counts, np.histogram(spectrum, found.edges)[0])
        assert found.below == 0
        assert found.above == np.sum(spectrum > found.edges[-1]) >= 1
        assert found.below + found.counts.sum() + found.above == problem.num_parameters


def on_the_quotient(problem, point) -> np.ndarray:
    """Eigenvalues of ∇²f on what is orthogonal to every (WΩ, −ΩH, 0), by LAPACK."""
    W, H = np.asarray(point.W), np.asarray(point.H)
    tangents = []
    for a, b in zip(*np.triu_indices(problem.dim, 1), strict=True):
        turn = np.zeros((problem.dim,) * 2)
        turn[a, b], turn[b, a] = 1.0, -1.0
        of_b = np.zeros(problem.num_classes * problem.has_bias)
        tangents.append(np.concatenate([(W @ turn).ravel(), (-turn @ H).ravel(), of_b]))
    if problem.lam_b == 0.0 and problem.loss.shift_invariant:
        flat = np.zeros(problem.num_parameters)
        flat[-problem.num_classes :] = 1.0
        tangents.append(flat)
    rest = scipy.linalg.null_space(np.array(tangents), rcond=1e-9)
    return np.linalg.eigvalsh(rest.T @ dense_hessian(problem, point) @ rest)


@pytest.mark.repeats
@every_problem
def test_counts_modulo_rotations_are_those_of_the_quotient(problem):
    """At points of full rank, of rank 1, and at the origin, where no rotation moves anything."""
    full = gaussian(problem, 2, 1.0)
    onto = jnp.zeros((problem.dim,) * 2).at[0, 0].set(1.0)
    line = dataclasses.replace(full, W=full.W @ onto, H=onto @ full.H)
    for point in (full, line, origin(problem)):
        expected = on_the_quotient(problem, point)
        found = inertia(problem, point, modulo_rotations=True)
        assert found.reliable
        assert found.negative == np.sum(expected < found.lower)
        assert found.zero == np.sum((expected > found.lower) & (expected < found.upper))
        assert found.negative + found.zero + found.positive == len(expected)
        for index in (0, -1):
            low, high = eigenvalue_bracket(problem, point, index, modulo_rotations=True)
            assert low - 1e-12 <= expected[index] <= high + 1e-12
            assert high - low < 1e-6


@pytest.mark.repeats
@every_problem
def test_brackets_hold_every_eigenvalue(problem):
    point = gaussian(problem, 3, 1.0)
    spectrum = spectrum_of(problem, point)
    for index in (0, 1, len(spectrum) // 2, len(spectrum) - 1, -1):
        low, high = eigenvalue_bracket(problem, point, index)
        # 1e-14: the oracle's own rounding.
        assert low - 1e-14 <= spectrum[index] <= high + 1e-14
        assert high - low < 1e-8 * np.max(np.abs(spectrum))
    low, high = eigenvalue_bracket(problem, point, 0, tol=1e-3)
    assert 1e-6 < high - low <= 1e-3


def test_a_bracket_of_a_multiple_eigenvalue_of_all_blocks():
    # At the origin λ_H is an eigenvalue of every block: no count can be taken there.
    problem = make(CrossEntropy(), BALANCED, None)
    point = origin(problem)
    spectrum = spectrum_of(problem, point)
    index = int(np.flatnonzero(np.isclose(spectrum, 5e-3, rtol=1e-12, atol=0))[1])
    low, high = eigenvalue_bracket(problem, point, index)
    assert low <= 5e-3 <= high
    assert high - low < 1e-6


def test_shifts_are_counted_in_groups_without_a_difference(monkeypatch):
    problem = PROBLEMS[0]
    point = gaussian(problem, 2, 1.0)
    edges = np.linspace(-0.2, 0.5, 23)
    whole = eigenvalue_histogram(problem, point, edges)
    monkeypatch.setattr(arrow, "_SHIFTS", 3)
    grouped = eigenvalue_histogram(problem, point, edges)
    np.testing.assert_array_equal(whole.counts, grouped.counts)
    np.testing.assert_array_equal(whole.edges, grouped.edges)


def test_what_cannot_be_counted_is_refused():
    problem = PROBLEMS[0]
    point = gaussian(problem, 0, 1.0)
    for edges in ([0.0], [1.0, 0.0], [0.0, 0.0], [0.0, np.nan]):
        with pytest.raises(ValueError, match="two or more ascending numbers"):
            eigenvalue_histogram(problem, point, np.array(edges))
    with pytest.raises(ValueError, match=r"index must be in \[-43, 43\)"):
        eigenvalue_bracket(problem, point, 43)
    with pytest.raises(ValueError, match="tol must be positive"):
        eigenvalue_bracket(problem, point, 0, tol=0.0)
    large = Problem(CrossEntropy(), (1,) * 120, 100, 1e-2, 1e-2, None)
    with pytest.raises(ValueError, match=r"a matrix of Kd \+ K = 12,000 rows"):
        eigenvalue_histogram(large, origin(large), np.array([0.0, 1.0]))


def test_without_decays_the_origin_is_counted_all_the_same():
    problem = Problem(CrossEntropy(), BALANCED, 4, 0.0, 0.0, None)
    point = origin(problem)
    # G = (1/3 − e_y)/N in every column, of norm 1/(K√n) at two samples a class: pairs ±‖G‖₂.
    low, high = eigenvalue_bracket(problem, point, 0)
    assert low <= -1 / (3 * 2**0.5) <= high
    assert high - low < 1e-8
    with pytest.raises(ValueError, match="tol must be given if lam_w and lam_h are 0"):
        inertia(problem, point)
    found = inertia(problem, point, tol=1e-6)
    assert found.negative == found.positive == 2 * 4


def test_entries_that_overflow_are_refused_in_one_line():
    problem = Problem(MSE(5.0, 3.0), BALANCED, 4, 1e-2, 1e-2, None)
    point = jax.tree.map(lambda x: 1e160 * x, gaussian(problem, 0, 1.0))
    for count in (inertia, functools.partial(eigenvalue_bracket, index=0), spectrum):
        with pytest.raises(ValueError, match="entries overflow at this point: scale W and H down"):
            count(problem, point)


def test_counts_compile_nothing_for_other_sizes():
    compiled = []

    def note(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for counts, dim in (((2, 2, 2), 4), ((5, 3, 70), 6)):
            problem = make(CrossEntropy(), counts, 1e-2, dim=dim)
            point = gaussian(problem, 2, 1.0)
            before = len(compiled)
            inertia(problem, point)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert len(compiled) == before
