r"""Bound the rate of change of the Hessian, to transfer curvatures to a nearby critical point.

Along a unit direction (A, B, c) the logits change by t q_i + t² A b̂_i/√c_i, so

    |d³f/dt³| ≤ Σ_i ω_i (l₃ ‖q_i‖³ + 6 l₂ ‖q_i‖ ‖A b̂_i‖/√c_i),
    ‖q_i‖ ≤ m_i = √(‖h_i‖² + ‖W‖₂²/c_i + 1),

with l₂, l₃ bounds on the second and third derivative of the loss.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.params import Params, finite_or_zero
from ufm.model.problem import Problem


@quick_jit
def hessian_lipschitz(problem: Problem, params: Params) -> Float[Array, ""]:
    """Bound the third derivative of f along unit directions at a point."""
    params, dtype = finite_or_zero(params), params.W.dtype
    second, third = (jnp.asarray(x, dtype) for x in problem.loss.smoothness())
    samples = problem.samples(dtype)
    spectral = jnp.linalg.svd(params.W, compute_uv=False)[0]
    squares = jnp.sum(params.H**2, axis=0) / samples
    weights = samples / jnp.sum(samples)
    m = jnp.sqrt(squares + spectral**2 / samples + 1.0)
    cubic = third * jnp.sum(weights * m**3)
    # Σ ω_i m_i ‖b̂_i‖/√c_i over ‖B‖ ≤ 1, by Cauchy–Schwarz.
    return cubic + 6.0 * second * jnp.sqrt(jnp.sum((weights * m) ** 2 / samples))
