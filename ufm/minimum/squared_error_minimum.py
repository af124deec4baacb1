r"""The global minimum for squared error in closed form, for any class counts, targets and width.

Let A (K×m) have the columns √n_k y_k with the targets y_k (a multiple of e_k for classes), centred
to A(I − uuᵀ), u_k = √(n_k/N), if the bias is free. With A = U diag(σ) Vᵀ,

    f = ‖Z − A‖²/(2N) + μ‖Z‖_*,   Z = U diag(s) Vᵀ,   s_i = (σ_i − Nμ)₊ for i ≤ d, else 0,
    f* = Σ_i [(s_i − σ_i)²/(2N) + μ s_i],   WWᵀ = √(λ_H/λ_W) U diag(s) Uᵀ,   b = ȳ,

by von Neumann's inequality. A direction of the targets is dead where the target covariance AAᵀ/N
has an eigenvalue of at most μ²N. (Classes: Zhou et al., 2022; regression: Andriopoulos et al.,
2024.) With λ_b > 0 the mean is not aligned with A, and the formula holds if ȳ = 0.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.losses import MSE, SquaredTargets
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.problem import Problem

#: The mean of the targets counts as 0 below this fraction of their norm.
_CENTRED = 1e-14


class TargetDirections(NamedTuple):
    """A = U diag(σ) Vᵀ, σ descending, with N, √n_k and the centre that a free bias takes over."""

    left: Float[np.ndarray, "K r"]
    sizes: Float[np.ndarray, " r"]
    right: Float[np.ndarray, "r m"]
    total: float
    roots: Float[np.ndarray, " m"]
    bias: Float[np.ndarray, " K"] | None

    def minimum(
        self, problem: Problem, s: Float[np.ndarray, " r"], penalty: Any, slope: Any, reason: str
    ) -> GlobalMinimum:
        """The minimum whose logits have the singular values s, of decay Σ penalty(s).

        `slope` is the derivative of the penalty that balances the largest residual.
        """
        value = float(np.sum((s - self.sizes) ** 2) / (2 * self.total) + np.sum(penalty))
        # Singular values are accurate relative to the largest one.
        scale = float(np.sum(self.sizes) * (self.sizes[0] / self.total + slope))
        count = len(self.left) + self.right.shape[1]
        rounding = 16 * float(np.finfo(float).eps) * count * scale
        return GlobalMinimum(
            value=value,
            lower_bound=value - rounding,
            is_exact=True,
            logits=(self.left * s) @ self.right / self.roots,
            bias=self.bias,
            rank=int(np.sum(s > 0)),
            problem=problem,
            reason=reason,
        )


def target_directions(problem: Problem) -> TargetDirections | None:
    """A with its singular values; None for other losses, or a decayed bias and a mean."""
    targets = _targets(problem)
    if targets is None:
        return None
    sizes, lam_b = np.asarray(class_sizes(problem), float), problem.lam_b
    total, roots = float(sizes.sum()), np.sqrt(sizes)
    mean = targets @ sizes / total
    centred = np.linalg.norm(mean) <= _CENTRED * np.linalg.norm(targets)
    if lam_b is not None and float(lam_b) > 0 and not centred:
        return None
    centre = np.zeros_like(mean) if lam_b is None else mean
    U, sigma, Vt = np.linalg.svd((targets - centre[:, None]) * roots, full_matrices=False)
    return TargetDirections(U, sigma, Vt, total, roots, None if lam_b is None else centre)


def squared_error_minimum(problem: Problem) -> GlobalMinimum | None:
    """The minimum by the formula, or None for other losses, or a decayed bias and a mean."""
    found = target_directions(problem)
    if found is None:
        return None
    mu = float(problem.mu())
    s = np.maximum(found.sizes - found.total * mu, 0.0)
    s[problem.dim :] = 0.0
    reason = f"closed form: {int(np.sum(s > 0))} singular values of the targets exceed Nμ"
    return found.minimum(problem, s, mu * s, mu, reason)


def _targets(problem: Problem) -> Float[np.ndarray, "K m"] | None:
    """The targets as columns; None unless the loss is ½‖z − y‖²."""
    loss = problem.loss
    if isinstance(loss, SquaredTargets):
        return np.asarray(loss.targets, float).T
    if isinstance(loss, MSE) and float(loss.scale) == 1.0:
        return float(loss.target) * np.eye(problem.num_classes)
    return None
