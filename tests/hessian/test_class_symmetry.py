"""Spectra by the symmetry of classes, against LAPACK on a Hessian assembled in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import dense_hessian as oracle
from points import gaussian, make, origin

import ufm
from ufm import MSE, Focal, Params, Problem
from ufm.hessian import class_symmetric_spectrum
from ufm.model.class_means import from_class_means, reduced_problem, to_class_means


def averaged(X: np.ndarray, blocks) -> np.ndarray:
    """The mean over all permutations within the blocks, entry by entry."""
    of = {int(k): i for i, block in enumerate(blocks) for k in block}
    groups: dict = {}
    for k in range(len(X)):
        for m in range(len(X)):
            groups.setdefault((of[k], of[m], k == m), []).append((k, m))
    out = np.empty_like(X)
    for entries in groups.values():
        index = tuple(np.array(entries).T)
        out[index] = np.mean(X[index])
    return out


def symmetric_point(problem: Problem, blocks, rank_left_out: int, seed: int) -> Params:
    """A random point that permutations within the blocks leave alone, in a random orientation.

    With the smallest `rank_left_out` groups of equal singular values of its logits at zero.
    """
    rng = np.random.default_rng(seed)
    K, d = problem.num_classes, problem.dim
    U, sizes, Vt = np.linalg.svd(averaged(rng.normal(size=(K, K)), blocks))
    for _ in range(rank_left_out):
        sizes[np.abs(sizes - np.min(sizes[sizes > 0])) < 1e-9] = 0.0
    rank = int(np.sum(sizes > 0))
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0][:rank]
    balance = float(problem.lam_h / problem.lam_w) ** 0.25
    W = balance * (U[:, :rank] * np.sqrt(sizes[:rank])) @ frame
    H = frame.T @ (np.sqrt(sizes[:rank])[:, None] * Vt[:rank]) / balance
    b = None
    if problem.has_bias:
        b = jnp.asarray(np.diag(averaged(np.diag(rng.normal(size=K)), blocks)))
    features = from_class_means(problem, jnp.asarray(H))
    return Params(jnp.asarray(W), features, b)


def means_of(problem: Problem, point: Params) -> Params:
    return Params(point.W, to_class_means(problem, point.H), point.b)


@pytest.mark.parametrize("loss", [Focal(3.0), MSE(5.0, 3.0)], ids=lambda loss: loss.label())
@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_every_representation_against_a_dense_matrix(loss, lam_b):
    classes = np.array([2, 0, 5, 4, 1, 3])  # blocks need not be runs of neighbours
    cases = [((6,), 0), ((6,), 1), ((2, 4), 0), ((2, 4), 1), ((1, 5), 0), ((1, 2, 3), 2)]
    problem = make(loss, (2,) * 6, lam_b, dim=6)
    for seed, (sizes, left_out) in enumerate(cases):
        blocks = np.split(classes, np.cumsum(sizes)[:-1])
        point = symmetric_point(problem, blocks, left_out, seed)
        found = class_symmetric_spectrum(problem, means_of(problem, point))
        assert found is not None
        expected = np.linalg.eigvalsh(oracle(problem, point))
        assert found.complete
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(found.expand(), expected, rtol=0, atol=1e-13 * scale)


def test_blocks_of_different_sizes_of_class():
    problem = make(Focal(2.0), (3, 3, 1, 1, 1, 1), None, dim=7)
    point = symmetric_point(problem, [np.arange(2), np.arange(2, 6)], 0, 3)
    found = class_symmetric_spectrum(problem, means_of(problem, point))
    assert found is not None
    expected = np.linalg.eigvalsh(oracle(problem, point))
    np.testing.assert_allclose(found.expand(), expected, rtol=0, atol=1e-13)


def test_residuals_say_how_far_a_nearly_symmetric_point_is_off():
    problem = make(Focal(3.0), (2,) * 6, None, dim=6)
    exact = symmetric_point(problem, [np.arange(2), np.arange(2, 6)], 0, 1)
    means = means_of(problem, exact)
    noise = means_of(problem, gaussian(problem, 0, 1.0))
    for size in (1e-10, 1e-8):
        near = Params(means.W + size * noise.W, means.H + size * noise.H, None)
        found = class_symmetric_spectrum(problem, near)
        assert found is not None
        features = from_class_means(problem, near.H)
        dense = np.linalg.eigvalsh(oracle(problem, Params(near.W, features, None)))
        assert np.all(np.abs(found.expand() - dense) <= np.repeat(
            found.residuals, found.multiplicities
        ))  # fmt: skip


def test_without_symmetry_there_is_none():
    problem = make(Focal(3.0), (2,) * 6, None, dim=6)
    assert class_symmetric_spectrum(problem, means_of(problem, gaussian(problem, 0, 1.0))) is None
    # Equal lengths are not enough: three pairs of classes, each merged.
    frame = np.repeat(np.eye(3, 6), 2, axis=0)
    merged = Params(jnp.asarray(frame), jnp.asarray(frame.T), None)
    assert class_symmetric_spectrum(problem, merged) is None
    far = dataclasses.replace(means_of(problem, origin(problem)), W=jnp.asarray(0.1 * frame))
    assert class_symmetric_spectrum(problem, far) is None


def _odd(z, label, c=1.0):
    """Critical and curved downwards at the origin for every label but the first."""
    extra = jnp.where(jnp.asarray(label) > 0, c, jnp.zeros(())) * 0.5 * jnp.log1p(jnp.sum(z**2))
    return jax.nn.logsumexp(z) - z[label] - extra


def test_a_loss_that_treats_labels_differently_has_no_such_symmetry():
    problem = Problem(
        loss=ufm.CustomLoss(_odd, {"c": 1.0}), class_counts=(2, 2, 2), dim=3,
        lam_w=0.5, lam_h=0.5, lam_b=0.01,
    )  # fmt: skip
    point = Params(jnp.zeros((3, 3)), jnp.zeros((3, 6)), jnp.zeros(3))
    assert class_symmetric_spectrum(problem, Params(point.W, jnp.zeros((3, 3)), point.b)) is None
    dense = np.linalg.eigvalsh(ufm.dense_hessian(problem, point))
    assert dense[0] < -0.5
    assert ufm.certify(problem, point).verdict is not ufm.Verdict.LOCAL_MINIMUM


def test_classes_of_one_size_may_have_different_numbers_of_columns():
    problem = Problem(
        loss=ufm.CrossEntropy(), class_counts=(2, 1, 1), dim=3, lam_w=1e-2, lam_h=1e-2, lam_b=1e-2,
        column_weights=jnp.asarray([1.0, 1.0, 2.0, 2.0]),
    )  # fmt: skip
    small = reduced_problem(problem, 3)
    means = ufm.solve(small, ufm.init_params(small, jax.random.key(0), 1.0)).params
    found = class_symmetric_spectrum(problem, means)
    assert found is not None
    assert found.complete
    point = Params(means.W, from_class_means(problem, means.H), means.b)
    dense = np.linalg.eigvalsh(oracle(problem, point))
    np.testing.assert_allclose(found.expand(), dense, atol=1e-9)
