"""Exact eigenvalue counts and the bound on third derivatives, against dense Hessians in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser, newton
from model_oracle import dense_hessian, objective_and_gradient
from points import BALANCED, SKEWED, cast, gaussian, make, origin, padded

from ufm import MSE, CrossEntropy, Focal, LabelSmoothing, Params, Problem, hvp, inertia
from ufm.hessian import Inertia, hessian_lipschitz, rotation_dimension

#: SKEWED's columns stand for this many samples each.
WEIGHTS = (1.0, 3.0, 2.0, 1.0, 4.0, 2.0, 0.5)
#: Every loss and every bias setting once.
SETTINGS = [
    make(CrossEntropy(), BALANCED, None),
    make(CrossEntropy(), BALANCED, 0.0),
    make(LabelSmoothing(0.1), BALANCED, None),
    make(Focal(3.0), BALANCED, 1e-2),
    make(MSE(5.0, 3.0), BALANCED, None),
]
every_setting = pytest.mark.parametrize(
    "problem", SETTINGS, ids=lambda problem: f"{problem.loss.label()}, λ_b={problem.lam_b}"
)


def weighted(loss=MSE(5.0, 3.0)) -> Problem:  # noqa: B008
    return Problem(loss, SKEWED, 4, 2e-2, 5e-3, 1e-2, jnp.array(WEIGHTS))


def eigenvalues(problem: Problem, params: Params) -> np.ndarray:
    return np.linalg.eigvalsh(dense_hessian(problem, params))


def counts(found: Inertia) -> tuple[int, int, int]:
    return found.negative, found.zero, found.positive


def expected(spectrum: np.ndarray, found: Inertia) -> tuple[int, int, int]:
    """The counts at the shifts that were used."""
    below, above = (int(np.sum(spectrum < x)) for x in (found.lower, found.upper))
    return below, above - below, len(spectrum) - above


@functools.cache
def saddle(loss, lam_b) -> tuple[Problem, Params]:
    """A critical point of rank 1 in four dimensions."""
    wide, narrow = make(loss, BALANCED, lam_b), make(loss, BALANCED, lam_b, dim=1)
    near = minimiser(wide)
    left, sizes, right = jnp.linalg.svd(near.W @ near.H, full_matrices=False)
    root = sizes[0] ** 0.5
    begin = Params(2**-0.5 * root * left[:, :1], 2**0.5 * root * right[:1], near.b)
    point = padded(newton(narrow, begin, steps=15), wide.dim)
    assert np.linalg.norm(objective_and_gradient(wide, point)[1]) < 1e-13
    assert float(jnp.linalg.norm(point.W)) > 0.1
    return wide, point


# Counts ------------------------------------------------------------------------------------------


@every_setting
def test_counts_are_those_of_a_dense_hessian(problem):
    for scale in (0.1, 1.0, 5.0):
        point = gaussian(problem, 3, scale)
        spectrum = eigenvalues(problem, point)
        shifts = [(0.0, None), (-0.1, 1e-3), (1e-2, 1e-4), (0.3, 0.05)]
        # On an eigenvalue of the Hessian: it is counted within.
        shifts += [(float(x), 1e-7) for x in spectrum[::9]]
        for shift, tol in shifts:
            found = inertia(problem, point, shift, tol)
            assert found.reliable
            width = 1e-6 * (problem.lam_w + problem.lam_h) if tol is None else tol
            assert found.lower == pytest.approx(shift - width, rel=0, abs=1e-7)
            assert found.upper == pytest.approx(shift + width, rel=0, abs=1e-7)
            assert counts(found) == expected(spectrum, found)
        for x in spectrum[::9]:
            assert inertia(problem, point, float(x), 1e-7).zero >= 1


def test_counts_with_weighted_columns():
    problem = weighted()
    for scale in (0.1, 1.0):
        point = gaussian(problem, 4, scale)
        spectrum = eigenvalues(problem, point)
        for shift in (0.0, 5e-3, 0.1, float(spectrum[20])):
            found = inertia(problem, point, shift, 1e-6)
            assert found.reliable
            assert counts(found) == expected(spectrum, found)


@pytest.mark.parametrize("class_counts", [(30, 25, 15), (64, 40, 24)])
def test_counts_beyond_one_chunk_of_columns(class_counts):
    problem = make(CrossEntropy(), class_counts, 1e-2, dim=2)
    point = gaussian(problem, 5, 1.0)
    spectrum = eigenvalues(problem, point)
    for shift in (0.0, 0.01, 0.05):
        found = inertia(problem, point, shift, 1e-6)
        assert found.reliable
        assert counts(found) == expected(spectrum, found)
    assert sum(counts(found)) == problem.num_parameters == len(spectrum)


def test_counts_in_single_precision():
    problem = SETTINGS[1]
    point = gaussian(problem, 3, 1.0)
    spectrum = eigenvalues(problem, cast(point, np.float32))
    for shift in (-0.05, 0.1):
        found = inertia(problem, cast(point, jnp.float32), shift, 1e-3)
        assert found.reliable
        assert counts(found) == expected(spectrum, found)


def test_a_shift_on_an_eigenvalue_of_a_block_is_moved_away_and_said():
    # At W = 0 all blocks are λ_H I: there the Schur complement does not exist.
    for problem in (SETTINGS[0], SETTINGS[1]):
        point = origin(problem)
        spectrum, lam_h = eigenvalues(problem, point), float(problem.lam_h)
        tol = 1e-4
        found = inertia(problem, point, lam_h - tol, tol)
        assert found.lower == pytest.approx(lam_h - 2 * tol, rel=1e-15, abs=0)
        assert lam_h < found.upper < lam_h + 1e-6
        assert found.reliable
        assert counts(found) == expected(spectrum, found)
        found = inertia(problem, point, lam_h + tol, tol)
        assert lam_h - 1e-6 < found.lower < lam_h
        assert found.upper == pytest.approx(lam_h + 2 * tol, rel=1e-15, abs=0)
        assert counts(found) == expected(spectrum, found)
        # λ_H ×(N−K)d and more: all of them within.
        within = inertia(problem, point, lam_h, 1e-5)
        assert (within.lower, within.upper) == (lam_h - 1e-5, lam_h + 1e-5)
        assert within.zero >= (6 - 3) * problem.dim


def test_eigenvalues_within_rounding_of_a_shift_make_counts_unreliable():
    problem, point = saddle(CrossEntropy(), None)
    assert inertia(problem, point, 0.0, 1e-9).reliable
    assert not inertia(problem, point, 0.0, 1e-17).reliable  # rotations: eigenvalues ±1e-18


# Critical points ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("problem", "per_dimension"), [(SETTINGS[0], 2), (SETTINGS[4], 3)])
def test_the_index_of_the_origin(problem, per_dimension):
    # d · #{σ_j(G) > μ}: K−1 of them for CE, K for MSE without a bias.
    found = inertia(problem, origin(problem))
    assert counts(found) == (
        per_dimension * problem.dim,
        0,
        problem.num_parameters - found.negative,
    )


@pytest.mark.parametrize("lam_b", [None, 0.0])
def test_the_index_of_a_saddle_of_rank_one_follows_from_its_singular_values(lam_b):
    problem, point = saddle(CrossEntropy(), lam_b)
    found, spectrum = inertia(problem, point), eigenvalues(problem, point)
    assert found.reliable
    assert counts(found) == expected(spectrum, found)
    logits = np.asarray(point.W @ point.H) + (
        0 if point.b is None else np.asarray(point.b)[:, None]
    )
    p = np.exp(logits) / np.exp(logits).sum(0)
    G = (p - np.repeat(np.eye(3), 2, axis=1)) / 6
    above = int(np.sum(np.linalg.svd(G, compute_uv=False) > 1e-2 * (1 + 1e-9)))
    narrow = Params(point.W[:, :1], point.H[:1], point.b)
    lower = inertia(make(CrossEntropy(), BALANCED, lam_b, dim=1), narrow)
    assert above >= 1
    assert found.negative == lower.negative + (problem.dim - 1) * above
    assert found.zero == rotation_dimension(problem, point) == 3 + (lam_b == 0.0)


@pytest.mark.parametrize(
    ("loss", "lam_b", "zeros"),
    [
        # K=3, d=4: (K−1)(d−K+1) + (K−1)(K−2)/2 = 5 for a simplex ETF, and one for b + c1.
        (CrossEntropy(), None, 5),
        (CrossEntropy(), 0.0, 6),
        (CrossEntropy(), 1e-2, 5),
        (LabelSmoothing(0.1), None, 5),
        (MSE(), 0.0, 5),
        # An orthogonal frame of rank K: K(d−K) + K(K−1)/2.
        (MSE(), None, 6),
    ],
)
def test_rotations_are_all_the_zeros_at_a_minimum(loss, lam_b, zeros):
    problem = make(loss, BALANCED, lam_b)
    point = minimiser(problem)
    spectrum = eigenvalues(problem, point)
    assert np.sum(np.abs(spectrum) < 1e-9) == zeros
    assert rotation_dimension(problem, point) == zeros
    found = inertia(problem, point)
    assert found.reliable
    assert counts(found) == (0, zeros, problem.num_parameters - zeros)


def test_rotations_of_other_ranks():
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    assert rotation_dimension(problem, origin(problem)) == 0
    point = minimiser(problem)
    assert rotation_dimension(problem, point) == 5
    assert inertia(problem, point).zero == 5
    assert rotation_dimension(problem, gaussian(problem, 0, 1.0)) == 4 * 3 // 2  # rank d: SO(d)


# The change of the Hessian -----------------------------------------------------------------------


def steepest_change(problem: Problem, point: Params, seed: int) -> float:
    """max over unit directions u of ‖d/dt ∇²f(x + tu)‖₂, by alternating ascent from one of them."""
    leaves, structure = jax.tree.flatten(point)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def change(u: np.ndarray) -> np.ndarray:
        moved = [
            jax.tree.unflatten(
                structure,
                [
                    x + t * jnp.asarray(part.reshape(x.shape))
                    for x, part in zip(leaves, np.split(u, ends), strict=True)
                ],
            )
            for t in (1e-4, -1e-4)
        ]
        return (dense_hessian(problem, moved[0]) - dense_hessian(problem, moved[1])) / 2e-4

    u = np.random.default_rng(seed).normal(size=sum(leaf.size for leaf in leaves))
    largest = 0.0
    for _ in range(6):
        values, vectors = np.linalg.eigh(change(u / np.linalg.norm(u)))
        largest = max(largest, float(np.max(np.abs(values))))
        u = vectors[:, np.argmax(np.abs(values))]
    return largest


@pytest.mark.parametrize("setting", [*SETTINGS, weighted(MSE()), weighted(CrossEntropy())])
def test_the_bound_on_the_third_derivative_holds(setting):
    for scale in (0.0, 0.3, 2.0):
        point = gaussian(setting, 6, scale)
        bound = float(hessian_lipschitz(setting, point))
        largest = max(steepest_change(setting, point, seed) for seed in (0, 1))
        # At the origin, without a bias, there is none. Differences are wrong by about 1e-8.
        assert (largest > 1e-3) == (scale > 0 or setting.has_bias)
        assert largest <= bound


def test_the_bound_on_the_third_derivative_is_not_far_off_for_squared_errors():
    # There the third derivative is 6 ⟨q, A b⟩ alone, which the bound takes apart only once.
    problem = make(MSE(), BALANCED, None)
    for scale in (0.3, 2.0):
        point = gaussian(problem, 6, scale)
        largest = max(steepest_change(problem, point, seed) for seed in (0, 1))
        assert float(hessian_lipschitz(problem, point)) < 10 * largest


# Errors ------------------------------------------------------------------------------------------


def test_what_has_no_counts_is_refused():
    problem = SETTINGS[0]
    point = gaussian(problem, 0, 1.0)
    broken = Params(point.W.at[0, 0].set(jnp.nan), point.H, None)
    with pytest.raises(ValueError, match="not finite"):
        inertia(problem, broken)
    for tol in (0.0, -1e-3):
        with pytest.raises(ValueError, match="tol must be positive"):
            inertia(problem, point, tol=tol)
    with pytest.raises(ValueError, match="tol must be given if lam_w and lam_h are 0"):
        inertia(Problem(CrossEntropy(), BALANCED, 4, 0.0, 0.0, None), point)
    with pytest.raises(ValueError, match=r"W must have shape \(3, 4\)"):
        inertia(problem, Params(point.W[:, :2], point.H[:2], None))
    with pytest.raises(ValueError, match=r"H must have shape \(4, 6\)"):
        hvp(problem, point, Params(point.W, point.H[:, 1:], None))
    with pytest.raises(ValueError, match="has no bias"):
        hvp(problem, point, Params(point.W, point.H, jnp.zeros(3)))
