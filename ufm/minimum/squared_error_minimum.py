r"""The global minimum for squared error in closed form, for any class counts, targets and width.

Let A (K×m) have the columns √n_k y_k with the targets y_k (a multiple of e_k for classes), centred
to A(I − uuᵀ), u_k = √(n_k/N), if the bias is free. With A = U diag(σ) Vᵀ,

    f = ‖Z − A‖²/(2N) + μ‖Z‖_*,   Z = U diag(s) Vᵀ,   s_i = (σ_i − Nμ)₊ for i ≤ d, else 0,
    f* = Σ_i [(s_i − σ_i)²/(2N) + μ s_i],   WWᵀ = √(λ_H/λ_W) U diag(s) Uᵀ,   b = ȳ,

by von Neumann's inequality. A direction of the targets is dead where the target covariance AAᵀ/N
has an eigenvalue of at most μ²N. (Classes: Zhou et al., 2022; regression: Andriopoulos et al.,
2024.) With λ_b > 0 the mean is not aligned with A, and the formula holds if ȳ = 0.
"""

import numpy as np
from jaxtyping import Float

from ufm.losses import MSE, SquaredTargets
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.problem import Problem

#: The mean of the targets counts as 0 below this fraction of their norm.
_CENTRED = 1e-14


def squared_error_minimum(problem: Problem) -> GlobalMinimum | None:
    """The minimum by the formula, or None for other losses, or a decayed bias and a mean."""
    targets = _targets(problem)
    if targets is None:
        return None
    sizes, lam_b = np.asarray(class_sizes(problem), float), problem.lam_b
    total, roots = sizes.sum(), np.sqrt(sizes)
    mean = targets @ sizes / total
    centred = np.linalg.norm(mean) <= _CENTRED * np.linalg.norm(targets)
    if lam_b is not None and float(lam_b) > 0 and not centred:
        return None
    centre = np.zeros_like(mean) if lam_b is None else mean
    U, sigma, Vt = np.linalg.svd((targets - centre[:, None]) * roots, full_matrices=False)
    mu = float(problem.mu())
    s = np.maximum(sigma - total * mu, 0.0)
    s[problem.dim :] = 0.0
    value = float(np.sum((s - sigma) ** 2) / (2 * total) + mu * np.sum(s))
    # Singular values are accurate relative to the largest one.
    scale = float(np.sum(sigma) * (sigma[0] / total + mu))
    rounding = 16 * float(np.finfo(float).eps) * sum(targets.shape) * scale
    rank = int(np.sum(s > 0))
    return GlobalMinimum(
        value=value,
        lower_bound=value - rounding,
        is_exact=True,
        logits=(U * s) @ Vt / roots,
        bias=None if lam_b is None else centre,
        rank=rank,
        problem=problem,
        reason=f"closed form: {rank} singular values of the targets exceed Nμ",
    )


def _targets(problem: Problem) -> Float[np.ndarray, "K m"] | None:
    """The targets as columns; None unless the loss is ½‖z − y‖²."""
    loss = problem.loss
    if isinstance(loss, SquaredTargets):
        return np.asarray(loss.targets, float).T
    if isinstance(loss, MSE) and float(loss.scale) == 1.0:
        return float(loss.target) * np.eye(problem.num_classes)
    return None
