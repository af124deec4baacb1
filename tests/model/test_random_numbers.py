"""Numbers drawn on the host against `jax.random` and SciPy: the bits, the quantiles, the choice."""

import jax
import mpmath
import numpy as np
import pytest

from ufm._support.normal_quantile import normal_quantile
from ufm._support.random_numbers import OnHost, gaussian, generator

KEY = jax.random.key(2**40 + 12345)
WORDS = np.asarray(jax.random.key_data(KEY))


def test_keys_are_split_and_folded_bit_for_bit():
    np.testing.assert_array_equal(
        OnHost.split(WORDS, 5), jax.random.key_data(jax.random.split(KEY, 5))
    )
    for data in (0, 7, 2**32 - 1):
        np.testing.assert_array_equal(
            OnHost.fold_in(WORDS, data), jax.random.key_data(jax.random.fold_in(KEY, data))
        )


# XLA's inverse error function is the less accurate one: to 1e-5 in single precision's tails.
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-11), ("float32", 1e-4)])
def test_normal_numbers_are_those_of_jax(dtype, accuracy):
    shape = (7, 5000)  # more than a chunk
    found = OnHost.normal(WORDS, shape, dtype)
    assert found.dtype == dtype
    expected = np.asarray(jax.random.normal(KEY, shape, dtype))
    np.testing.assert_allclose(found, expected, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("key", [KEY, jax.random.key(3, impl="rbg")])
def test_gaussian_numbers_are_on_the_device(key):
    found = gaussian(key, (3, 2), np.float32)
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, jax.random.normal(key, (3, 2), np.float32), rtol=1e-4)


def test_quantiles_are_accurate_to_rounding_in_the_middle_and_far_out():
    tails = 1.0 - np.geomspace(2.0**-52, 1.0, 60)
    u = np.concatenate([np.linspace(-0.999, 0.999, 81), tails, -tails, np.geomspace(1e-300, 0.9)])
    with mpmath.workdps(50):
        expected = np.array([float(mpmath.sqrt(2) * mpmath.erfinv(float(x))) for x in u])
    np.testing.assert_allclose(normal_quantile(u), expected, rtol=2e-15, atol=0)
    assert np.abs(expected).max() > 8.0


def test_other_keys_many_numbers_and_transformations_are_left_to_jax():
    assert generator(KEY, 10)[0] is OnHost
    assert generator(KEY, 2**40)[0] is jax.random
    assert generator(jax.random.key(0, impl="rbg"), 10)[0] is jax.random
    assert generator(jax.random.PRNGKey(0), 10)[0] is jax.random
    chosen = []
    jax.make_jaxpr(lambda key: chosen.append(generator(key, 10)[0]))(KEY)
    assert chosen == [jax.random]
