"""Where the runs of a hunt begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ufm import Params
from ufm.counterexamples.hunt import without_classes


def test_classes_die_whole_but_for_noise_of_a_hundredth_of_the_largest_entry():
    rng = np.random.default_rng(0)
    point = Params(*(jnp.asarray(rng.normal(size=shape)) for shape in ((9, 40), (40, 9), (9,))))
    start = without_classes(point, 4, jax.random.key(2))
    W, H = np.asarray(start.W), np.asarray(start.H)
    dead = np.max(np.abs(W), axis=1) < 0.2
    assert np.sum(dead) == 4
    np.testing.assert_array_equal(dead, np.max(np.abs(H), axis=0) < 0.2)
    before = (np.asarray(point.W) * ~dead[:, None], np.asarray(point.H) * ~dead, point.b)
    for x, kept in zip((W, H, start.b), before, strict=True):
        noise = np.asarray(x - kept) / (0.01 * np.max(np.abs(kept)))
        assert np.std(noise) == pytest.approx(1, rel=0.1 if noise.ndim > 1 else 0.6)
        assert abs(np.mean(noise)) < 4 / noise.size**0.5
