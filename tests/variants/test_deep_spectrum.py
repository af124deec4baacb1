"""Spectra with hidden layers against Hessians by automatic derivatives of f in JAX's own words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm.model.params import Params

KEY = jax.random.key(0)
COUNTS = (3, 2, 2)
DEEP = ufm.Problem(
    ufm.CrossEntropy(), COUNTS, 5, 0.02, 0.03, 0.0, lam_hidden=(0.01,), hidden_dims=(4,)
)


def three_factors(x):
    """f of W (3×4), F (4×5), H (5×7), each row by row, and a free bias."""
    W, F, H = x[:12].reshape(3, 4), x[12:32].reshape(4, 5), x[32:67].reshape(5, 7)
    logits = W @ F @ H + x[67:, None]
    own = logits[np.repeat(np.arange(3), COUNTS), np.arange(7)]
    loss = jnp.mean(jax.nn.logsumexp(logits, axis=0) - own)
    return loss + 0.01 * jnp.sum(W**2) + 0.005 * jnp.sum(F**2) + 0.015 * jnp.sum(H**2)


def flat(point: Params) -> np.ndarray:
    parts = (point.W, *point.hidden, point.H, point.b)
    return np.concatenate([np.asarray(x).ravel() for x in parts])


def test_all_eigenvalues_at_the_minimum_and_the_zeros_of_rotations():
    point = ufm.solve(DEEP, ufm.init_params(DEEP, KEY, 1.0)).params
    exact = np.linalg.eigvalsh(jax.jit(jax.hessian(three_factors))(flat(point)))
    for method in ("auto", "dense"):
        found = ufm.spectrum(DEEP, point, method)
        assert found.method == ("dense" if method == "dense" else "collapsed")
        np.testing.assert_allclose(found.expand(), exact, atol=1e-9)
        # Rank 2 in widths 4 and 5, each r(d − r) + r(r − 1)/2, and b + c1.
        assert (found.negative, found.zero, found.gauge_dimension) == (0, 5 + 7 + 1, 5 + 7 + 1)
        assert found.definite_modulo_gauge
    # In any other orientation of the inner spaces, and where the point is the library's choice.
    chosen = ufm.spectrum(DEEP)
    np.testing.assert_allclose(chosen.expand(), exact, atol=1e-9)
    assert "at the best point found" in chosen.note


def test_residuals_bound_the_change_to_class_means():
    point = ufm.solve(DEEP, ufm.init_params(DEEP, KEY, 1.0)).params
    moved = dataclasses.replace(point, H=point.H + 1e-7 * jax.random.normal(KEY, point.H.shape))
    means, dense = (ufm.spectrum(DEEP, moved, x) for x in ("auto", "dense"))
    error = np.max(np.abs(means.expand() - dense.expand()))
    assert means.method == "collapsed"
    assert 1e-9 < error < means.residuals.max() < 1e-3


def test_the_origin_is_a_minimum_without_an_orbit():
    origin = ufm.solve(DEEP, ufm.init_params(DEEP, KEY, 0.0)).params
    found = ufm.spectrum(DEEP, origin)
    assert (found.negative, found.zero, found.gauge_dimension) == (0, 1, 1)  # b + c1
    np.testing.assert_allclose(found.eigenvalues[1:4], [0.01, 0.02, 0.03], rtol=1e-9)


def test_what_spectra_with_hidden_layers_do_not_have_is_refused():
    for given, message in (
        ({"method": "lanczos"}, "method must be one of auto, collapsed, dense for problems with"),
        ({"at": "origin"}, "at must be 'minimum' for problems with hidden layers"),
    ):
        with pytest.raises(ValueError, match=message):
            ufm.spectrum(DEEP, **given)
    with pytest.raises(ValueError, match="the point is not collapsed"):
        ufm.spectrum(DEEP, ufm.init_params(DEEP, KEY), "collapsed")
