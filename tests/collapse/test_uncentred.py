"""Cosines of class means as they are: a simplex ETF, an orthogonal frame, and dead classes."""

import jax.numpy as jnp
import numpy as np
import pytest

import ufm

K, N, D = 4, 3, 6
PROBLEM = ufm.Problem.balanced(
    loss=ufm.CrossEntropy(), num_classes=K, per_class=N, dim=D, lam_w=1e-2, lam_h=1e-2, lam_b=None
)


def point(means: np.ndarray) -> ufm.Params:
    """H with these class means (d, K) and deviations that cancel."""
    H = np.repeat(means, N, axis=1)
    H[0, ::N] += 0.5
    H[0, 1::N] -= 0.5
    return ufm.Params(jnp.zeros((K, D)), jnp.asarray(H), None)


def test_frames_with_the_same_nc_metrics_differ():
    orthogonal = np.eye(D, K)
    simplex = np.pad(np.eye(K) - 1 / K, ((0, D - K), (0, 0)))
    metrics = []
    for means, cosine in ((orthogonal, 0.0), (simplex, -1 / (K - 1))):
        found = ufm.frame_metrics(PROBLEM, point(means))
        for each in (found.cosine_mean, found.cosine_min, found.cosine_max):
            assert float(each) == pytest.approx(cosine, abs=1e-14)
        assert float(found.norm_spread) == pytest.approx(0.0, abs=1e-14)
        W = jnp.asarray((means - means.mean(axis=1, keepdims=True)).T)
        H = jnp.asarray(np.repeat(means, N, axis=1))
        metrics.append(ufm.nc_metrics(PROBLEM, ufm.Params(W, H, None)))
    for found in metrics:
        assert max(float(x) for x in (found.nc1, found.nc2, found.nc3)) < 1e-12


def test_each_pair_counts_and_norms_do_not():
    means = np.zeros((D, K))
    means[0, :2] = 2.0, 3.0  # equal directions
    means[1, 2], means[2, 3] = 1.0, 5.0
    found = ufm.frame_metrics(PROBLEM, point(means))
    assert float(found.cosine_mean) == pytest.approx(1 / 6)
    assert (float(found.cosine_min), float(found.cosine_max)) == (0.0, pytest.approx(1.0))
    assert float(found.norm_spread) == pytest.approx(np.std([2, 3, 1, 5]) / 2.75)


def test_means_of_zero_have_no_direction():
    means = np.zeros((D, K))
    means[0, 0] = means[1, 1] = 1.0
    found = ufm.frame_metrics(PROBLEM, point(means))
    assert (found.num_zero, float(found.cosine_max)) == (2, 0.0)
    found = ufm.frame_metrics(PROBLEM, point(0.0 * means))
    assert found.num_zero == K
    assert np.isnan(found.cosine_mean)


def test_weighted_columns_count_as_their_samples():
    problem = ufm.Problem(ufm.CrossEntropy(), (2, 1), 2, 0.1, 0.1, None, column_weights=[3.0, 1, 1])
    h = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    H = jnp.asarray(h * np.sqrt([3.0, 1.0, 1.0]))
    found = ufm.frame_metrics(problem, ufm.Params(jnp.zeros((2, 2)), H, None))
    assert float(found.cosine_mean) == pytest.approx(1 / np.sqrt(10))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shape"):
        ufm.frame_metrics(PROBLEM, ufm.Params(jnp.zeros((K, D)), jnp.zeros((D, 2)), None))
