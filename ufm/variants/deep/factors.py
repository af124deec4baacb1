r"""The factors of a deep linear model, and the problems that it reduces to.

    Z = W F_1 ⋯ F_L H,   M = L + 2 factors, decays λ_W, λ_1, …, λ_L, λ_H,

    Λ = (λ_W λ_1 ⋯ λ_L λ_H)^{1/M},   p = 2/M.

The least decay of factors with the product Z is (M/2) Λ Σ_i s_i(Z)^p, with the singular values s_i
of Z. It is attained by balanced factors, whose singular values a satisfy λ a_i² = Λ s_i^p. With
F̃ = √(λ/Λ) F for each factor, the problem is one in which all decays are Λ.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ufm.model.class_means import class_sizes
from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem


def factors_of(params: Params) -> tuple[Any, ...]:
    """W, F_1, …, F_L, H."""
    return params.W, *params.hidden, params.H


def with_factors(factors: Any, b: Any) -> Params:
    """The point with these factors, from W to H; NumPy's arrays become JAX's."""
    W, *hidden, H = map(_on_device, factors)
    return Params(W, H, _on_device(b), tuple(hidden))


def _on_device(x: Any) -> Any:
    return jax.device_put(x) if isinstance(x, np.ndarray) else x


def decays_of(problem: Problem) -> tuple[Any, ...]:
    """λ_W, λ_1, …, λ_L, λ_H."""
    return problem.lam_w, *problem.lam_hidden, problem.lam_h


def number_of_factors(problem: Problem) -> int:
    """M."""
    return len(problem.lam_hidden) + 2


def inner_widths(problem: Problem) -> tuple[int, ...]:
    """The widths between factors, from W to H."""
    return *problem.hidden_dims, problem.dim


def mean_decay(problem: Problem) -> Any:
    """Λ, a NumPy number if the decays are numbers."""
    decays = decays_of(problem)
    xp = np if all(isinstance(x, float | np.floating) for x in decays) else jnp
    # Roots first: the product of small decays may underflow.
    return functools.reduce(xp.multiply, (xp.asarray(x) ** (1 / len(decays)) for x in decays))


def largest_rank(problem: Problem) -> int:
    """The largest rank of Z."""
    return min(*inner_widths(problem), problem.num_outputs, problem.num_classes)


def chain(factors: Any) -> Any:
    """The product of factors, on the host for NumPy's arrays."""
    on_host = all(isinstance(F, np.ndarray) for F in factors)
    return functools.reduce(np.matmul if on_host else matmul, factors)


def end_to_end(params: Params) -> Params:
    """The two factors W̃ = W F_1 ⋯ F_L and H."""
    return Params(chain((params.W, *params.hidden)), params.H, params.b)


def without_hidden(problem: Problem) -> Problem:
    """The plain problem of W̃ and H with the same λ_W and λ_H."""
    return dataclasses.replace(problem, lam_hidden=(), hidden_dims=None)


def of_class_means(problem: Problem, width: int | None = None) -> Problem:
    """The K-column problem with the class sizes as weights; `width` for all inner widths."""
    widths = inner_widths(problem) if width is None else (width,) * len(inner_widths(problem))
    return dataclasses.replace(
        problem,
        class_counts=(1,) * problem.num_classes,
        column_weights=class_sizes(problem),
        dim=widths[-1],
        hidden_dims=widths[:-1],
    )
