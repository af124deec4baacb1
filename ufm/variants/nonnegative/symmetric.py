r"""The symmetric minimum of balanced classes with H ≥ 0, for convex losses that treat them alike.

Averaging over permutations of the classes keeps a minimum at Z = (ρP + (τ/K)11ᵀ) ⊗ 1_nᵀ, b = b₀1,

    f = ℓ(u, w) + μ√n γ(ρ, τ) + λ_b K b₀²/2,
    γ = √K √((K−1)ρ² + τ²) if |τ| ≤ |ρ|, else (K−1)|ρ| + |τ|,

with u = w + ρ the logit of the label and w = (τ − ρ)/K + b₀ the others. It is convex in the three
scalars and smooth away from ρ = τ = 0. Newton's method finds them, and a certificate at the point
proves them. In the first case every class has a coordinate of its own; in the second, where H ≥ 0
costs nothing, W = √ρ P + σ√|τ| J and H ∝ √ρ P + √|τ| J ≥ 0, σ the sign of τ, J = 11ᵀ/K.
Where ρ = 0 ≠ τ (all features equal) f has a kink, and Newton's method may not arrive.
For squared error with κ = M = 1, ρ = 1/(1+x), τ = c/(c+x) with c = λ_b/(1+λ_b) and one root x.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.hessian.products.columns import loss_derivatives
from ufm.model.problem import Problem

#: Directions and lengths of (ρ, τ) among which Newton's method starts at the best.
_RATIOS, _LENGTHS = np.linspace(-1.0, 1.0, 9), 4.0 ** np.arange(-10.0, 6.0)
_MOST_STEPS = 200


class Scalars(NamedTuple):
    """ρ, τ and b₀."""

    rho: float
    tau: float
    bias_level: float


def is_symmetric(problem: Problem) -> bool:
    """Whether the minimum is one of these."""
    loss = problem.loss
    alike = loss.equivariant and not problem.has_targets
    return bool(loss.is_convex()) and alike and problem.per_class is not None


def symmetric_scalars(problem: Problem) -> Scalars:
    """The best scalars but for ρ = τ = 0."""
    function = _Function(problem)
    x = function.start()
    value, gradient, hessian = function(x)
    for _ in range(_MOST_STEPS):
        # A free bias and a loss that ignores shifts leave a direction without curvature.
        step = -np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0]
        slope, size = float(gradient @ step), float(np.linalg.norm(gradient))
        length = 1.0
        while length > 1e-12:
            after = function(x + length * step)
            falls = after[0] <= value + 1e-4 * length * slope
            if falls or (length == 1.0 and np.linalg.norm(after[1]) < 0.5 * size):
                break
            length /= 2.0
        else:
            break
        x = x + length * step
        value, gradient, hessian = after
    level = float(x[2]) if problem.has_bias else 0.0
    return Scalars(float(x[0]), float(x[1]), level)


def logits_of(problem: Problem, found: Scalars) -> Float[np.ndarray, "K K"]:
    """ρP + (τ/K)11ᵀ."""
    K = problem.num_classes
    return found.rho * np.eye(K) + (found.tau - found.rho) / K


def joint_factors(
    problem: Problem, found: Scalars
) -> tuple[Float[np.ndarray, "K r"], Float[np.ndarray, "r K"]]:
    """W and √n h̄_k in the second case, |τ| > ρ ≥ 0."""
    K, n = problem.num_classes, problem.per_class or 1
    J = np.full((K, K), 1.0 / K)
    balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25 * n**0.25
    across, along = max(found.rho, 0.0) ** 0.5, abs(found.tau) ** 0.5
    if across == 0.0:  # all features are equal
        column = np.full((K, 1), K**-0.5)
        return np.sign(found.tau) * along * balance * column, along / balance * n**0.5 * column.T
    frame = across * (np.eye(K) - J)
    W, H = frame + np.sign(found.tau) * along * J, frame + along * J
    return balance * W, n**0.5 / balance * H


class _Function:
    """f, its gradient and Hessian in (ρ, τ) and, with a bias, b₀."""

    def __init__(self, problem: Problem) -> None:
        self.loss, self.K = problem.loss, problem.num_classes
        self.rate = float(problem.mu()) * (problem.per_class or 1) ** 0.5
        self.decay = None if problem.lam_b is None else float(problem.lam_b) * self.K
        # (u, w) is linear in the scalars.
        K = self.K
        self.linear = np.array([[1.0 - 1.0 / K, 1.0 / K, 1.0], [-1.0 / K, 1.0 / K, 1.0]])
        self.linear = self.linear[:, : 2 if self.decay is None else 3]

    def __call__(self, x: Float[np.ndarray, " s"]) -> tuple[float, Any, Any]:
        value, by, second = self._loss(self.linear @ x)
        gradient, hessian = self.linear.T @ by, self.linear.T @ second @ self.linear
        penalty, slope, bend = self._penalty(x[0], x[1])
        value, gradient[:2] = value + penalty, gradient[:2] + slope
        hessian[:2, :2] += bend
        if self.decay is not None:
            value += 0.5 * self.decay * x[2] ** 2
            gradient[2] += self.decay * x[2]
            hessian[2, 2] += self.decay
        return value, gradient, hessian

    def start(self) -> Float[np.ndarray, " s"]:
        """The lowest of a grid of points."""
        directions = [(1.0, t) for t in _RATIOS] + [(0.0, 1.0), (0.0, -1.0)]
        grid = np.array([[c * a, c * b] for a, b in directions for c in _LENGTHS])
        levels = [0.0] if self.decay is None else [-1.0, 0.0, 1.0 / self.K, 1.0]
        points = np.array([[*p, m][: self.linear.shape[1]] for p in grid for m in levels])
        logits = points @ self.linear.T
        z = np.repeat(logits[:, 1:], self.K, axis=1)
        z[:, 0] = logits[:, 0]
        values = loss_derivatives(self.loss, z, np.zeros(len(z), np.int32)).values
        values = values + np.array([self._penalty(*x[:2])[0] for x in points])
        if self.decay is not None:
            values = values + 0.5 * self.decay * points[:, 2] ** 2
        return points[np.nanargmin(values)]

    def _loss(self, logits: Float[np.ndarray, " 2"]) -> tuple[float, Any, Any]:
        """ℓ(u, w) and its derivatives."""
        z = np.full((1, self.K), logits[1])
        z[0, 0] = logits[0]
        found = loss_derivatives(self.loss, z, np.zeros(1, np.int32))
        g, S = found.gradients[0], found.hessians[0]
        by = np.array([g[0], np.sum(g[1:])])
        mixed = np.sum(S[0, 1:])
        return float(found.values[0]), by, np.array([[S[0, 0], mixed], [mixed, np.sum(S[1:, 1:])]])

    def _penalty(self, rho: float, tau: float) -> tuple[float, Any, Any]:
        """μ√n γ(ρ, τ) and its derivatives."""
        K, c = self.K, self.rate
        if abs(tau) > abs(rho):
            value = c * ((K - 1) * abs(rho) + abs(tau))
            return value, c * np.array([(K - 1) * np.sign(rho), np.sign(tau)]), np.zeros((2, 2))
        size = float(np.sqrt((K - 1) * rho**2 + tau**2)) or 1.0
        gradient = np.array([(K - 1) * rho, tau]) / size
        bend = (np.diag([K - 1.0, 1.0]) - np.outer(gradient, gradient)) / size
        root = c * K**0.5
        return root * float(np.hypot((K - 1) ** 0.5 * rho, tau)), root * gradient, root * bend
