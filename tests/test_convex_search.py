"""Golden-section search for the logarithm of a minimiser, on functions whose minimisers we know."""

import jax.numpy as jnp
import numpy as np

from ufm._support.convex_search import least_points

STARS = np.array([1e-200, 1e-30, 1e-3, 0.7, 1.0, 3.0, 1e20])


def test_minimisers_are_found_to_half_a_percent_and_the_limit_exactly():
    """θ/θ* − log θ has its minimum at θ*, and beyond the limit falls up to it."""
    found = least_points(lambda x: x / STARS - jnp.log(x), jnp.full(len(STARS), 2.0))
    inside = STARS < 2.0
    np.testing.assert_allclose(np.asarray(found)[inside], STARS[inside], rtol=0.005)
    np.testing.assert_array_equal(np.asarray(found)[~inside], 2.0)


def test_domains_that_end_and_flat_ends_do_not_mislead():
    """(θ − θ*)² is θ*² in double precision from 1e-17 θ* down, and here undefined above 1.5 θ*."""
    ends = np.array([1e-150, 1e-3, 1.0])
    limits = jnp.asarray([1.0, 1.0, 1.2])
    for undefined in (jnp.nan, jnp.inf):

        def cost(x, undefined=undefined):
            return jnp.where(x > 1.5 * ends, undefined, (x / ends - 1.0) ** 2)

        np.testing.assert_allclose(least_points(cost, limits), ends, rtol=0.005)
