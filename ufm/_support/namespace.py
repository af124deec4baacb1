"""Choose NumPy or JAX for a formula, so that scalars on the host are computed without compiling.

>>> namespace(np.ones(3)).__name__, namespace(jnp.ones(3)).__name__
('numpy', 'jax.numpy')
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ufm._support.quick_jit import is_traced


def namespace(*numbers: Any) -> Any:
    """Return `jax.numpy` if any of the numbers is a JAX array, else `numpy`."""
    return jnp if any(isinstance(x, jax.Array) for x in numbers) else np


def settled(tree: Any) -> Any:
    """Convert all leaves to float64 NumPy arrays, or to JAX arrays within a transformation."""
    if is_traced(tree):
        return jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda x: np.asarray(x, float), tree)


def softplus(t: Any) -> Any:
    """log(1 + eᵗ)."""
    return namespace(t).logaddexp(t, 0.0)


def log_sigmoid(t: Any) -> Any:
    """log σ(t)."""
    return -softplus(-t)


def sigmoid(t: Any) -> Any:
    """σ(t) = 1/(1 + e⁻ᵗ), accurate relative to its size for every t."""
    if isinstance(t, jax.Array):
        return jax.nn.sigmoid(t)
    small = np.exp(-np.abs(t))
    return np.where(t >= 0, 1.0, small) / (1.0 + small)
