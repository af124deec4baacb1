r"""The global minimum for targets that no permutation of the outputs changes, by one scalar.

If every permutation of the K outputs maps the multiset of targets to itself (all label sets of a
size; mixup of all pairs), a minimiser of the convex problem can be averaged over permutations.
Then Z, with columns √n_i z_i, has ZZᵀ = τ²P/(K−1) with τ = ‖Z‖_F, so that ‖Z‖_* = √(K−1) τ;
b = 0, and each group solves

    z(c) = argmin_z L(z, y) + c/2 ‖z‖²,     c = Nμ√(K−1)/τ,     τ² = Σ_i n_i ‖z_i(c)‖²,

for one target y of each orbit. The norm of ∇L at z(c) increases with c, so that c τ(c) = Nμ√(K−1)
has one root, and none if Nμ√(K−1) ≥ (Σ_i n_i ‖∇L(0, y_i)‖²)^{1/2}: the origin. For the indicator
of m labels z = a_m P 1_S with a_m (m e^{a_m} + K − m) = κ, κ = K/c: features of label sets are
scaled averages of those of their labels (the tag-wise average property, Li et al., 2023).
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ufm.losses import SoftmaxTargets
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.problem import Problem

Vector = Float[np.ndarray, " K"]
#: Newton steps for one target, of which about ten are needed, and the shortest fraction of one.
_MOST_STEPS, _SHORTEST_STEP = 100, 1e-8
#: Largest gap of the formula relative to f*; beyond, at tiny decays, duality decides.
_LARGEST_GAP = 1e-9


def symmetric_targets_minimum(problem: Problem) -> GlobalMinimum | None:
    """The minimum by the formula, or None for other losses and targets that lack the symmetry."""
    loss = problem.loss
    if not isinstance(loss, SoftmaxTargets):
        return None
    table, sizes = np.asarray(loss.targets, float), np.asarray(class_sizes(problem), float)
    if not is_symmetric(table, sizes):
        return None
    alpha, (groups, outputs) = float(loss.alpha), table.shape
    table = (1.0 - alpha) * table + alpha * table.mean(axis=1, keepdims=True)
    total, mu = sizes.sum(), float(problem.mu())
    pull = total * mu * math.sqrt(outputs - 1)
    kinds, where = np.unique(np.sort(table, axis=1), axis=0, return_inverse=True)
    counts = np.bincount(where.ravel(), sizes)

    def points(c: float) -> Float[np.ndarray, "t K"]:
        return np.stack([_ridge(y, c)[0] for y in kinds])

    def spread(z: Float[np.ndarray, "t K"]) -> float:
        return math.sqrt(float(counts @ np.sum(z**2, axis=1)))

    steepest = spread(kinds - kinds.mean(axis=1, keepdims=True))
    z, excess = np.zeros_like(kinds), 0.0
    if pull < steepest:
        try:
            c = _root(lambda c: c * spread(points(c)) - pull)
            ends = [_ridge(y, c) for y in kinds]
        except np.linalg.LinAlgError:  # a decay so small that curvatures round to 0
            return None
        z, errors = np.stack([z for z, _ in ends]), np.array([error for _, error in ends])
        # pull·τ = min_c (c τ² + pull²/c)/2, and for each c the minimum over z is c-strongly convex.
        excess = float(counts @ errors**2) / (2.0 * c * total)
    tau = spread(z)
    losses = np.array([_value(point, y) for point, y in zip(z, kinds, strict=True)])
    value = float(counts @ losses) / total + pull * tau / total
    rounding = 64 * (outputs + groups) * float(np.finfo(float).eps) * value + excess
    if not rounding <= _LARGEST_GAP * value:
        return None
    # Each group's logits are its orbit's, in the order of its own target.
    order = np.argsort(np.argsort(table, axis=1, kind="stable"), axis=1, kind="stable")
    logits = np.take_along_axis(z[where.ravel()], order, axis=1).T
    rank = outputs - 1 if tau > 0 else 0
    return GlobalMinimum(
        value=value,
        lower_bound=value - rounding,
        is_exact=problem.dim >= rank,
        logits=logits,
        bias=np.zeros(outputs) if problem.has_bias else None,
        rank=rank,
        problem=problem,
        reason="targets that no permutation changes: one scalar, by symmetry and convexity",
    )


def is_symmetric(table: Float[np.ndarray, "m K"], sizes: Float[np.ndarray, " m"]) -> bool:
    """Whether permutations of the columns permute the rows, together with their sizes."""
    rows: Counter[tuple[float, ...]] = Counter()
    for row, size in zip(table.tolist(), sizes.tolist(), strict=True):
        rows[tuple(row)] += size
    orbits: dict[tuple[float, ...], list[float]] = {}
    for row, size in rows.items():
        orbits.setdefault(tuple(sorted(row)), []).append(size)
    return all(
        len(found) == _orbit_length(row) and len(set(found)) == 1 for row, found in orbits.items()
    )


def _orbit_length(row: tuple[float, ...]) -> int:
    """The number of different orders of the row."""
    repeats = (math.factorial(count) for count in Counter(row).values())
    return math.factorial(len(row)) // math.prod(repeats)


def _root(function: Callable[[float], float]) -> float:
    """The c > 0 with function(c) = 0, a function that increases from below 0 to above."""
    from scipy.optimize import brentq  # a sixth of a second, which few problems need

    low, high = 1.0, 1.0
    while function(low) > 0:
        low /= 16.0
    while function(high) < 0:
        high *= 16.0
    log_c: Any = brentq(
        lambda t: function(math.exp(t)),
        math.log(low),
        math.log(high),
        xtol=1e-15,
        rtol=4 * np.finfo(float).eps,
    )
    return math.exp(float(log_c))


def _value(z: Vector, y: Vector) -> float:
    """Σ_j y_j (−log p_j), relatively accurate for the largest logit, too."""
    order = np.argsort(z)
    gaps = z[order[-1]] - z
    return float(y @ (gaps + np.log1p(np.sum(np.exp(-gaps[order[:-1]])))))


def _ridge(y: Vector, c: float) -> tuple[Vector, float]:
    """z(c), and a bound on ‖∇‖ there, by Newton steps from 0 on a strongly convex function."""
    mass, z = float(y.sum()), np.zeros_like(y)

    def derivative(z: Vector) -> tuple[Vector, Vector]:
        p = np.exp(z - z.max())
        p /= p.sum()
        return mass * p - y + c * z, p

    gradient, p = derivative(z)
    for _ in range(_MOST_STEPS):
        hessian = mass * (np.diag(p) - np.outer(p, p)) + c * np.eye(len(y))
        hessian += mass / len(y)  # along 1, which no step takes
        step = np.linalg.solve(hessian, gradient)
        length, size = 1.0, float(np.linalg.norm(gradient))
        while length >= _SHORTEST_STEP:
            trial = z - length * step
            trial -= trial.mean()
            after, p_after = derivative(trial)
            # Descent in the gradient: f is convex, so its Newton direction reduces that norm.
            if np.linalg.norm(after) <= (1.0 - 1e-4 * length) * size:
                break
            length /= 2.0
        else:
            break
        z, gradient, p = trial, after, p_after
        if np.linalg.norm(gradient) <= 1e-15 * (mass + c * np.linalg.norm(z)):
            break
    terms = mass + float(np.linalg.norm(y)) + c * float(np.linalg.norm(z))
    rounding = (len(y) + 16) * float(np.finfo(float).eps) * terms
    return z, float(np.linalg.norm(gradient)) + rounding
