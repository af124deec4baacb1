"""Levenberg–Marquardt steps through the arrow structure against the dense matrix."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from model_oracle import dense_hessian
from points import BALANCED, BIASES, SKEWED, gaussian, make

from ufm import Focal
from ufm.landscape.resolvent import hessian_blocks, real_resolvent

_blocks, _resolvent = jax.jit(hessian_blocks), jax.jit(real_resolvent)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize("counts", [BALANCED, SKEWED])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shift", [1e-1, 1e-3])
def test_it_is_the_real_part_of_the_shifted_inverse(lam_b, counts, weighted, shift):
    problem = make(Focal(2.0), counts, lam_b=lam_b, mu=5e-2)
    if weighted:
        weights = jnp.arange(1.0, problem.num_columns + 1.0)
        problem = dataclasses.replace(problem, column_weights=weights)
    point, x = gaussian(problem, 0, 1.5), gaussian(problem, 1, 1.0)
    H = dense_hessian(problem, point)
    flat = np.asarray(ravel_pytree(x)[0])
    expected = np.linalg.solve(H + 1j * shift * np.eye(len(H)), flat)
    found = _resolvent(_blocks(problem, point), jnp.asarray(shift), x)
    found = np.asarray(ravel_pytree(found)[0])
    # Along a free shift of b the imaginary part is 1/σ times as large, and so is its rounding.
    np.testing.assert_allclose(found, expected.real, rtol=0, atol=1e-11 * np.max(np.abs(expected)))
