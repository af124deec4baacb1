"""The path of minimisers over decays: against minima computed alone, a table, and differences."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import convex_minimum
from mpmath import mp
from points import make

from ufm import MSE, CrossEntropy, Focal, LabelSmoothing, decay_path, zero_decay_limit
from ufm.minimum.decay_path import _predicted
from ufm.minimum.minimiser import least_factors
from ufm.model.params import Params

RATIO_10 = (1000, 1000, 100, 100)
#: f and the cosines of w_k (large–large, large–small, small–small) at q = Nμ/√n_min, computed
#: independently.
TABLE = {
    0.9: (0.835939834339, (-0.64679723, -0.39246916, 0.74440355)),
    0.1: (0.162428565552, (-0.54991562, -0.36559947, 0.18789257)),
    1e-2: (0.023091322089, (-0.52258313, -0.36936237, 0.14305603)),
}
DECAYS = (0.9, 0.1, 1e-2, 1e-4, 1e-6, 1e-8)


def two_sizes(counts, q, start):
    """Two large and two small classes without bias at 40 digits, in the scalars of symmetry.

    Z̄ is s_L and s_S times the differences within the groups and, with t = (1, 1, −1, −1), columns
    x t and −y t, with singular values s√n and 2√2√(n_L x² + n_S y²).
    """
    large, small = map(mp.mpf, (counts[0], counts[-1]))
    samples = 2 * (large + small)
    mu = mp.mpf(q) * mp.sqrt(small) / samples

    def gradient(s_large, s_small, x, y):
        within, across = [], []
        size = mp.sqrt(large * x**2 + small * y**2)
        for n, s, t in ((large, s_large, x), (small, s_small, y)):
            twin, others = mp.exp(-s), 2 * mp.exp(-(s / 2 + 2 * t))
            share = 2 * n / samples / (1 + twin + others)
            within.append(mu * mp.sqrt(n) - share * (twin + others / 2))
            across.append(mu * 2 * mp.sqrt(2) * n * t / size - share * 2 * others)
        return within + across

    s_large, s_small, x, y = root = tuple(mp.findroot(gradient, start, tol=1e-60, maxsteps=99))
    size = 2 * mp.sqrt(2) * mp.sqrt(large * x**2 + small * y**2)
    parts = s_large * mp.sqrt(large), s_small * mp.sqrt(small)
    squares = [part / 2 + size / 4 for part in parts]  # of |w_k|, up to the balance of the decays
    cosines = [(size / 4 - part / 2) / square for part, square in zip(parts, squares, strict=True)]
    across = -size / 4 / mp.sqrt(squares[0] * squares[1])
    value = mu * (sum(parts) + size) + sum(
        2 * n / samples * mp.log(1 + mp.exp(-s) + 2 * mp.exp(-(s / 2 + 2 * t)))
        for n, s, t in ((large, s_large, x), (small, s_small, y))
    )
    return root, value, (cosines[0], across, cosines[1]), mp.sqrt(squares[0] / squares[1])


def test_ratio_10_of_four_classes_down_to_tiny_decays():
    problem = make(CrossEntropy(), RATIO_10, mu=1e-3)
    path = decay_path(problem, [q * 10 / 2200 for q in DECAYS])
    assert path.exact.all()
    limit = zero_decay_limit(problem)
    assert np.all(np.diff([limit.distance(table) for table in path.logits]) < 0)
    root = tuple(map(mp.mpf, (3, 0.1, 1, 0.6)))
    with mp.workdps(40):
        for i, q in enumerate(DECAYS):
            root, value, cosines, ratio = two_sizes(RATIO_10, q, root)
            found = path.geometry(i)
            assert path.values[i] == pytest.approx(float(value), rel=1e-9)
            np.testing.assert_allclose(found.cosine_w, [*map(float, cosines)], atol=1e-9)
            assert found.ratio_w == pytest.approx(float(ratio), rel=1e-9)
            if q in TABLE:
                assert path.values[i] == pytest.approx(TABLE[q][0], abs=1e-12)
                np.testing.assert_allclose(found.cosine_w, TABLE[q][1], atol=6e-9)
    last = path.geometry(len(DECAYS) - 1)
    np.testing.assert_allclose(last.cosine_h, [-0.2311, -0.2814, -0.5882], atol=6e-5)
    assert last.ratio_h == pytest.approx(0.6708, abs=6e-5)


def test_tangents_save_newton_steps():
    problem = make(CrossEntropy(), RATIO_10, mu=1e-3)
    decays = np.geomspace(1e-3, 1e-10, 8)
    along, plain = (decay_path(problem, decays, tangent=way) for way in (True, False))
    assert along.exact.all()
    assert plain.exact.all()
    np.testing.assert_array_equal(along.fresh, [True] + 7 * [False])
    np.testing.assert_array_equal(plain.fresh, along.fresh)
    np.testing.assert_allclose(along.values, plain.values, rtol=1e-9)
    assert np.all(along.steps[1:] < plain.steps[1:])
    assert 2 * along.steps.sum() < plain.steps.sum()
    assert np.all(along.steps[1:] <= 4)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])
@pytest.mark.parametrize(
    "loss", [CrossEntropy(), LabelSmoothing(0.1), MSE()], ids=lambda loss: loss.label()
)
def test_points_are_the_minima_of_a_convex_solver(loss, lam_b):
    # From merged small classes to distinct ones, and back to the origin.
    problem = make(loss, (4, 4, 1, 1), lam_b)
    decays = [0.12, 0.08, 0.03, 0.02, 0.3]
    path = decay_path(problem, decays)
    assert path.exact.all()
    for i, mu in enumerate(decays):
        ratio = mu / 1e-2  # all decays are in the ratio of the problem's, λ_b too
        oracle = convex_minimum(make(loss, (4, 4, 1, 1), lam_b and ratio * lam_b, mu))
        assert path.values[i] == pytest.approx(oracle.value, abs=oracle.accuracy)
        assert path.gaps[i] <= 1e-8
        np.testing.assert_allclose(path.logits[i], oracle.Z[:, [0, 4, 8, 9]], atol=2e-3)
    assert path.fresh[1]  # merged points have no direction in which to part


@pytest.mark.parametrize("lam_b", [None, 0.0])
def test_the_error_of_the_tangent_step_is_of_second_order(lam_b):
    problem = make(CrossEntropy(), RATIO_10, lam_b, mu=1e-3)
    steps = [1e-3 * np.exp(-delta) for delta in (0.0, 0.1, 0.05)]
    path = decay_path(problem, steps)
    W, H = least_factors(problem, path.logits[0])
    b = None if path.biases is None else jnp.asarray(path.biases[0])
    start = Params(jnp.asarray(W), jnp.asarray(H), b)
    errors = []
    for i in (1, 2):
        found = _predicted(problem, start, steps[0], steps[i])
        Z = np.asarray(found.W) @ np.asarray(found.H) / np.sqrt(RATIO_10)
        errors.append(np.linalg.norm(Z - path.logits[i]))
        if path.biases is not None:
            error = np.asarray(found.b) - path.biases[i]
            errors[-1] += np.linalg.norm(error - error.mean())
        assert errors[-1] < 0.1 * np.linalg.norm(path.logits[i] - path.logits[0])
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)


def test_bad_decays_are_refused_in_a_line():
    problem = make(CrossEntropy(), (4, 2, 1))
    for decays in ([], [1e-2, 0.0], [1e-2, np.nan]):
        with pytest.raises(ValueError, match="decays must be a list of positive numbers"):
            decay_path(problem, decays)
    with pytest.raises(ValueError, match="certified for convex losses, FL"):
        decay_path(make(Focal(2.0), (4, 2, 1)), [1e-2])
    with pytest.raises(ValueError, match="at most 40 classes, got 41"):
        decay_path(make(CrossEntropy(), (2,) * 41), [1e-2])
    with pytest.raises(ValueError, match="lam_w and lam_h must be positive"):
        decay_path(dataclasses.replace(problem, lam_w=0.0), [1e-2])
