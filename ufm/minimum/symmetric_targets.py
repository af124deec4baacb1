r"""The global minimum for targets that no permutation of the outputs changes, by one scalar.

If every permutation of the K outputs maps the multiset of targets to itself (all label sets of a
size; mixup of all pairs), a minimiser of the convex problem can be averaged over permutations.
Then ZZᵀ = τ²P, so that ‖Z‖_* = √(K−1) τ with τ = ‖Z‖_F, b = 0, and each group solves

    z(c) = argmin_z L(z, y) + c/2 ‖z‖²,     c = Nμ√(K−1)/τ,     τ² = Σ_i n_i ‖z_i(c)‖²,

for one target y of each orbit. The norm of ∇L at z(c) increases with c, so that c τ(c) = Nμ√(K−1)
has one root, and none if Nμ√(K−1) ≥ (Σ_i n_i ‖∇L(0, y_i)‖²)^{1/2}: the origin. For the indicator
of m labels z = a_m P 1_S with a_m (m e^{a_m} + K − m) = κ, κ = K/c: features of label sets are
scaled averages of those of their labels (the tag-wise average property, Li et al., 2023).
"""

import math
from collections import Counter

import numpy as np
from jaxtyping import Float

from ufm.losses import SoftmaxTargets
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.problem import Problem

Vector = Float[np.ndarray, " K"]
#: Newton steps for one target, of which about ten are needed.
_MOST_STEPS = 100


def symmetric_targets_minimum(problem: Problem) -> GlobalMinimum | None:
    """The minimum by the formula, or None for other losses and targets that lack the symmetry."""
    from scipy.optimize import brentq  # a sixth of a second, which few problems need

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
        return np.stack([_ridge(y, c) for y in kinds])

    def spread(z: Float[np.ndarray, "t K"]) -> float:
        return math.sqrt(float(counts @ np.sum(z**2, axis=1)))

    steepest = spread(kinds - kinds.mean(axis=1, keepdims=True))
    z = np.zeros_like(kinds)
    if pull < steepest:
        # c ‖z(c)‖ ≤ ‖∇L(0)‖, with equality as c → ∞; it tends to 0 with c.
        low, high = 1.0, 1.0
        while low * spread(points(low)) > pull:
            low /= 16.0
        while high * spread(points(high)) < pull:
            high *= 16.0
        log_c = brentq(
            lambda t: math.exp(t) * spread(points(math.exp(t))) - pull,
            math.log(low),
            math.log(high),
            xtol=1e-15,
            rtol=4 * np.finfo(float).eps,
        )
        z = points(math.exp(float(np.asarray(log_c))))
    tau = spread(z)
    losses = np.array([_value(point, y) for point, y in zip(z, kinds, strict=True)])
    value = float(counts @ losses) / total + pull * tau / total
    # Each group's logits are its orbit's, in the order of its own target.
    order = np.argsort(np.argsort(table, axis=1, kind="stable"), axis=1, kind="stable")
    logits = np.take_along_axis(z[where.ravel()], order, axis=1).T
    rank = outputs - 1 if tau > 0 else 0
    return GlobalMinimum(
        value=value,
        lower_bound=value - _rounding(value, outputs, groups),
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


def _value(z: Vector, y: Vector) -> float:
    """|y| log Σ_j e^{z_j} − ⟨y, z⟩ = Σ_j y_j (−log p_j)."""
    top = z.max()
    return float(y @ (top - z) + y.sum() * np.log(np.sum(np.exp(z - top))))


def _ridge(y: Vector, c: float) -> Vector:
    """z(c), by Newton steps from 0 on a strongly convex function; its sum is 0."""
    mass, z = float(y.sum()), np.zeros_like(y)

    def derivative(z: Vector) -> tuple[Vector, Vector]:
        p = np.exp(z - z.max())
        p /= p.sum()
        return mass * p - y + c * z, p

    gradient, p = derivative(z)
    for _ in range(_MOST_STEPS):
        hessian = mass * (np.diag(p) - np.outer(p, p)) + c * np.eye(len(y))
        step = np.linalg.solve(hessian, gradient)
        length, size = 1.0, float(np.linalg.norm(gradient))
        while True:
            trial = z - length * step
            after, p = derivative(trial)
            # Descent in the gradient: f is convex, so its Newton direction reduces that norm.
            if np.linalg.norm(after) <= (1.0 - 1e-4 * length) * size or length < 1e-8:
                break
            length /= 2.0
        if length < 1e-8:
            return z
        z, gradient = trial, after
        if np.linalg.norm(gradient) <= 1e-15 * (mass + c * np.linalg.norm(z)):
            break
    return z - z.mean()


def _rounding(value: float, outputs: int, groups: int) -> float:
    return 64 * (outputs + groups) * float(np.finfo(float).eps) * value
