"""Brackets of roots: neighbouring numbers, on the host and within a program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ufm._support.bisection import bisect, bracket

SQUARE = 2.0  # irrational root: no number is the root itself


@pytest.mark.parametrize("of", [np.float64, jnp.asarray, lambda x: np.full((2, 3), x)])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1e4), (1e4, 0.0)])
def test_a_bracket_is_two_neighbours_from_either_side(of, low, high):
    rising = low < high
    a, b = bracket(lambda x: (x * x > SQUARE) == rising, of(low), of(high))
    below, above = (a, b) if rising else (b, a)
    np.testing.assert_array_equal(np.nextafter(below, 2.0), above)
    assert np.all((np.square(below) < SQUARE) & (np.square(above) > SQUARE))


def test_a_predicate_that_holds_everywhere_or_nowhere_gives_the_ends():
    low, high = np.float64(1.0), np.float64(3.0)
    assert bisect(lambda x: x > 0.0, low, high) == 1.0
    assert bracket(lambda x: x > 9.0, low, high)[1] == 3.0


def test_a_batch_of_programs_has_the_numbers_of_single_ones():
    squares = jnp.array([0.25, 2.0, 7.0])
    found = jax.vmap(lambda s: bisect(lambda x: x * x >= s, 0.0 * s, 9.0 + s))(squares)
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=4e-16)
