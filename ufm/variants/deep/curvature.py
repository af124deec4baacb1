r"""Curvatures at a critical point of a deep linear model: a minimum, or a direction of descent.

At the nearest point of exact rank with collapsed features (`reduced`), all eigenvalues of ∇²f are
computed. Those of the exact critical point nearby differ from them by less than

    margin = max(10⁻⁴ min λ, 4 √(L ‖∇f‖)) + L ‖x − x̃‖,

with L a bound on the third derivative along unit directions. With spectral norms a_l of the
factors, logits change by at most q₁ = √(Σ_l (∏_{j≠l} a_j)²) in first order, q₂ in second and q₃ in
third order, and |d³f/dt³| ≤ l₃ q₁³ + 3 l₂ q₁ q₂ + l₁ q₃, l the bounds of the loss's derivatives.
"""

import itertools
from typing import NamedTuple

import jax
import numpy as np

from ufm.certificates.second_order import Escape
from ufm.hessian.structured.collapsed import COLLAPSED, collapse_deviation
from ufm.model.class_means import from_class_means
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.derivatives import products, value_gradient_state
from ufm.variants.deep.factors import decays_of, factors_of, with_factors
from ufm.variants.deep.hessian import (
    LARGEST,
    Reduced,
    dense,
    deviation_eigenvalues,
    flat,
    forced_zeros,
    reduced,
    unflat,
)


class Curvatures(NamedTuple):
    """What the eigenvalues say, and the direction of the smallest one."""

    rank: int
    is_minimum: bool
    descends: bool
    escape: Escape


def no_curvatures(params: Params) -> Curvatures:
    """For points that are not critical, not collapsed or too large."""
    nothing = jax.tree.map(lambda x: jax.device_put(np.zeros_like(x)), params)
    nan = jax.device_put(np.float64(np.nan))
    return Curvatures(-1, False, False, Escape(nothing, nan, nan))


def third_derivative(problem: Problem, params: Params) -> float:
    """L at a point of weighted columns."""
    gamma = np.asarray(value_gradient_state(problem, params)[3].gamma)
    _, second, third = 0.0, *(float(x) for x in problem.loss.smoothness())
    *inner, H = (np.asarray(F) for F in factors_of(params))
    roots = np.sqrt(np.asarray(problem.samples(H.dtype)))
    sizes = [float(np.linalg.norm(F, 2)) for F in inner]
    sizes.append(float(np.max(np.linalg.norm(H, axis=0) / roots)))
    units = np.ones(len(sizes))
    units[-1] = 1.0 / float(np.min(roots))  # a change of H by 1 changes a feature by this

    def without(count: int) -> list[float]:
        """The products of all but `count` norms."""
        chosen = itertools.combinations(range(len(sizes)), count)
        return [
            float(np.prod([units[i] if i in gone else sizes[i] for i in range(len(sizes))]))
            for gone in chosen
        ]

    M = len(sizes)
    q1 = (sum(x**2 for x in without(1)) + problem.has_bias) ** 0.5
    # Σ δ_iδ_j ≤ (M−1)/2 and Σ δ_iδ_jδ_k ≤ C(M,3) M^{−3/2} for Σ δ² ≤ 1 (Maclaurin).
    q2 = (M - 1) * max(without(2))
    q3 = M * (M - 1) * (M - 2) / M**1.5 * max(without(3))
    slopes = float(np.sum(np.linalg.norm(gamma, axis=0)))
    return third * q1**3 + 3 * second * q1 * q2 + slopes * q3


def curvatures(problem: Problem, params: Params, grad_norm: float) -> Curvatures:
    """Compute all eigenvalues at the reduced point, if they are a matter of seconds."""
    if not collapse_deviation(problem, params) <= COLLAPSED:
        return no_curvatures(params)
    near = reduced(problem, params)
    if near.problem.num_parameters > LARGEST:
        return no_curvatures(params)
    values, vectors = np.linalg.eigh(dense(near.problem, near.params))
    steep = third_derivative(near.problem, near.params)
    decays = [float(x) for x in decays_of(problem)]
    margin = max(1e-4 * min(decays), 4.0 * (steep * grad_norm) ** 0.5) + steep * near.moved
    repeated = problem.num_columns > problem.num_classes
    least = float(np.min(deviation_eigenvalues(near.problem, near.params))) if repeated else np.inf
    within = int(np.sum(np.abs(values) <= margin)) + _idle_zeros(problem, near.rank)
    minimum = values[0] >= -margin and within == forced_zeros(problem, near.rank)
    minimum &= margin < min(decays) and least > margin
    escape = _escape(problem, params, near, values, vectors)
    kappa = -float(escape.curvature)
    eps = float(np.finfo(float).eps)
    rounding = 64 * eps * float(np.max(np.abs(values))) * len(values)
    descends = kappa > rounding and kappa**2 > 16.0 * grad_norm * steep
    return Curvatures(near.rank, bool(minimum), bool(descends), escape)


def _idle_zeros(problem: Problem, rank: int) -> int:
    """Zeros of rotations into dimensions that the reduced point does not have."""
    return forced_zeros(problem, rank) - forced_zeros_within(problem, rank)


def forced_zeros_within(problem: Problem, rank: int) -> int:
    """Those of the reduced point, whose inner widths are the rank (1 for the origin)."""
    turns = rank * (rank - 1) // 2 * (len(problem.lam_hidden) + 1)
    free = problem.has_bias and float(problem.lam_b or 0.0) == 0 and problem.loss.shift_invariant
    return turns + int(free)


def _escape(
    problem: Problem, params: Params, near: Reduced, values: np.ndarray, vectors: np.ndarray
) -> Escape:
    """The eigenvector of least curvature as a direction at the point itself, by a product there."""
    small = unflat(near.params, vectors[:, 0])
    eye = np.eye(len(params.W))
    left, right = [eye, *near.bases], [*near.bases, np.eye(problem.num_classes)]
    factors = [
        x @ np.asarray(F) @ y.T for x, F, y in zip(left, factors_of(small), right, strict=True)
    ]
    means = jax.device_put(factors[-1])
    b = None if small.b is None else jax.device_put(small.b)
    inner = [jax.device_put(F) for F in factors[:-1]]
    direction = with_factors((*inner, from_class_means(problem, means)), b)
    size = float(np.linalg.norm(flat(direction)))
    direction = jax.tree.map(lambda x: jax.device_put(np.asarray(x) / size), direction)
    at = value_gradient_state(problem, params)[2]
    image = products(problem, params, at, direction)
    curvature = np.float64(flat(direction) @ flat(image))
    return Escape(direction, *jax.device_put((curvature, np.float64(values[0]))))
