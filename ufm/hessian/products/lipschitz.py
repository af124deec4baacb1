r"""Bound the rate of change of the Hessian, to transfer curvatures to a nearby critical point.

Along a unit direction (A, B, c) the logits change by t q_i + t² A b̂_i/√c_i, so

    |d³f/dt³| ≤ Σ_i ω_i (l₃ ‖q_i‖³ + 6 l₂ ‖q_i‖ ‖A b̂_i‖/√c_i),
    ‖q_i‖ ≤ m_i = √(‖h_i‖² + ‖W‖₂²/c_i + 1),

with l₂, l₃ bounds on the second and third derivative of the loss.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ufm.model.params import Params, finite_or_zero
from ufm.model.problem import Problem


@np.errstate(over="ignore", invalid="ignore")
def hessian_lipschitz(problem: Problem, params: Params) -> Float[Array, ""]:
    """Bound the third derivative of f along unit directions at a point."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((problem, params)))
    xp = jnp if traced else np  # once, on the host, it needs no program
    if traced or not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)):
        params = finite_or_zero(params)
    dtype = params.W.dtype
    second, third = (xp.asarray(x, dtype) for x in problem.loss.smoothness())
    weights = problem.column_weights
    samples = xp.ones(problem.num_columns, dtype) if weights is None else xp.asarray(weights, dtype)
    spectral = xp.linalg.svd(xp.asarray(params.W), compute_uv=False)[0]
    squares = xp.sum(xp.asarray(params.H) ** 2, axis=0) / samples
    weights = samples / xp.sum(samples)
    m = xp.sqrt(squares + spectral**2 / samples + 1.0)
    cubic = third * xp.sum(weights * m**3)
    # Σ ω_i m_i ‖b̂_i‖/√c_i over ‖B‖ ≤ 1, by Cauchy–Schwarz.
    mixed = 6.0 * second * xp.sqrt(xp.sum((weights * m) ** 2 / samples))
    return jnp.asarray(cubic + mixed)
