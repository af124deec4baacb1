r"""Proven lower bounds of f: from any symmetric matrix, and in closed form.

**At any point.** f is convex in X, and feasible X have X ⪰ 0 and diag X = 1. For every symmetric X₀
and every β, with Γ = ∇f(X₀) and N columns,

    f(X) ≥ f(X₀) + ⟨Γ, X − X₀⟩ = f(X₀) − ⟨Γ, X₀⟩ − Σβ + ⟨diag β + Γ, X⟩,

and ⟨M, X⟩ ≥ N min(λ_min(M), 0). With β_i = −(ΓX₀)_ii the sum in the middle is zero, so that

    f* ≥ f(X₀) − N (−λ_min(diag β + Γ))₊.

At a critical point (diag β + Γ)Hᵀ = 0, and diag β + Γ ⪰ 0 proves a global minimum. In the full
batch this is done for the K columns of `reduced`, at the directions of the class means: their
minimum value is that of all N, so that the bound holds at any point, however far from collapse.

**Closed forms.** Balanced full batch: log(n−1+(N−n)e^{−K/((K−1)τ)}), the value of a simplex ETF,
for every d. H ≥ 0: cosines are in [0, 1], so that f is at least its value with cosines 1 within
and 0 between classes. Anything else: Σ_r ω_r log |P(r)|, from the positives alone.

All bounds are computed in double precision and lowered by a bound on their rounding error.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.variants.contrastive.pairs import pairs_of, reduced, slopes, symmetric, value_of
from ufm.variants.contrastive.problem import ContrastiveProblem

_EPS = float(np.finfo(float).eps)
#: Operations on each term beside the sums: divisions, shifts, exponentials, logarithms.
_STEPS = 16
Gram = Float[np.ndarray, "m m"]


class Slopes(NamedTuple):
    """f at X₀, Γ and β there, and bounds on the errors of f and of the tangent at feasible X."""

    value: float
    gamma: Gram
    beta: Float[np.ndarray, " m"]
    value_rounding: float
    tangent_rounding: float


class Bound(NamedTuple):
    """A lower bound on f*, lowered by `rounding`; λ_min, NaN for a closed form."""

    lower: float
    rounding: float
    least_eigenvalue: float = np.nan


def slopes_at(problem: ContrastiveProblem, X: Gram) -> Slopes:
    """f and its slopes at a symmetric matrix."""
    pairs, tau = pairs_of(problem, np, np.float64), float(problem.temperature)
    rows = X if pairs.anchors is None else X[pairs.anchors]
    value, probabilities = value_of(pairs, rows / tau)
    gamma = 0.5 * symmetric(pairs, slopes(pairs, probabilities, tau), len(X))
    terms = sum(rows.shape) + _STEPS
    # Exponents have an error of a few eps |X|/τ, and so have, relatively, probabilities. The
    # weights times probabilities, and times targets, each add up to 1.
    largest = max(1.0, float(np.abs(X).max()))
    exponent = 8 * largest / tau + terms
    slope_rounding = 2 * (1 + largest) / tau * exponent
    product_rounding = len(X) * float(np.sum(np.abs(gamma * X)))
    log_sum = float(np.abs(np.log(pairs.others.sum(axis=1))).max()) + largest / tau
    return Slopes(
        value=float(value),
        gamma=gamma,
        beta=-np.sum(gamma * X, axis=1),
        value_rounding=_EPS * terms * (log_sum + 4 * largest / tau + 1),
        tangent_rounding=_EPS * (slope_rounding + product_rounding),
    )


def tangent_bound(problem: ContrastiveProblem, X: Gram) -> Bound:
    """The bound f(X₀) − N(−λ_min(diag β + Γ))₊ of the columns of a problem."""
    at, columns = slopes_at(problem, X), len(X)
    M = np.diag(at.beta) + at.gamma
    least = float(np.linalg.eigvalsh(M)[0])
    unsure = 4 * columns * _EPS * float(np.linalg.norm(M))
    rounding = at.value_rounding + at.tangent_rounding + columns * unsure
    return Bound(at.value - columns * max(-least, 0.0) - rounding, rounding, least)


def closed_bound(problem: ContrastiveProblem) -> Bound:
    """The best bound in closed form."""
    if problem.features is not None:
        at = slopes_at(problem, same_class(problem))
        return Bound(at.value - at.value_rounding, at.value_rounding)
    if problem.batches is None and problem.per_class is not None:
        at = slopes_at(reduced(problem), frame_cosines(problem.num_classes))
        return Bound(at.value - at.value_rounding, at.value_rounding)
    value = infimum(problem)
    rounding = _EPS * (problem.num_columns + _STEPS) * (1 + value)
    return Bound(value - rounding, rounding)


def infimum(problem: ContrastiveProblem) -> float:
    """Σ_r ω_r log |P(r)|, below every value of f."""
    pairs = pairs_of(problem, np, np.float64)
    positives = np.sum(np.where(pairs.targets > 0, pairs.others, 0.0), axis=1)
    return float(np.sum(pairs.weights * np.log(np.maximum(positives, 1.0))))


def best_bound(problem: ContrastiveProblem, H: Float[np.ndarray, "d N"]) -> Bound:
    """The best bound at a point: in closed form, or by the tangent there."""
    closed = closed_bound(problem)
    if problem.features is not None:
        return closed
    columns, points = problem, H
    if problem.batches is None:
        columns, points = reduced(problem), mean_directions(problem, H)
    at_point = tangent_bound(columns, cosines(points))
    if not at_point.lower >= closed.lower:
        return closed._replace(least_eigenvalue=at_point.least_eigenvalue)
    return at_point


def cosines(H: Float[np.ndarray, "d m"]) -> Gram:
    """HᵀH for unit columns, exactly symmetric and with ones on the diagonal."""
    X = H.T @ H
    X = 0.5 * (X + X.T)
    np.fill_diagonal(X, 1.0)
    return X


def mean_directions(
    problem: ContrastiveProblem, H: Float[np.ndarray, "d N"]
) -> Float[np.ndarray, "d K"]:
    """The directions of the class means; the first feature of a class whose mean is zero."""
    labels = problem.labels
    means = H @ np.eye(problem.num_classes)[labels] / np.bincount(labels)
    first = H[:, np.searchsorted(labels, np.arange(problem.num_classes))]
    sizes = np.linalg.norm(means, axis=0)
    chosen = np.where(sizes > 1e-8, means, first)
    return chosen / np.linalg.norm(chosen, axis=0)


def same_class(problem: ContrastiveProblem) -> Gram:
    """X with cosines 1 within and 0 between classes."""
    labels = problem.labels
    return (labels[:, None] == labels[None, :]).astype(float)


def frame_cosines(num_classes: int) -> Gram:
    """X of a simplex ETF: −1/(K−1) between classes."""
    X = np.full((num_classes, num_classes), -1.0 / (num_classes - 1))
    np.fill_diagonal(X, 1.0)
    return X
