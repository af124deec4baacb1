r"""Eigenvalues of the directions outside the row space, in closed form at any point.

Let r be the rank of [W; Hᵀ] and a ∈ R^d orthogonal to the rows of W and to the features. Along
A = u aᵀ, B = a vᵀ the logits do not change to first order, so

    ΔᵀHΔ = 2 uᵀG v + λ_W ‖u‖² + λ_H ‖v‖²,

decoupled from all other directions. With σ_j the singular values of G the eigenvalues are

    (λ_W+λ_H)/2 ± √(((λ_W−λ_H)/2)² + σ_j²)   each ×(d−r), j = 1..K,    λ_H ×(N−K)(d−r),

with m < K groups of samples j = 1..m and λ_W ×(K−m)(d−r),

and the rest of the spectrum is that of the same point in r dimensions. (For critical points: Zhou
et al., 2022, whose escape direction belongs to the pair of a σ_j > μ. The formula above shows that
the point need not be critical.)
"""

import numpy as np
from jaxtyping import Float

from ufm.hessian.spectrum_result import Part
from ufm.model.problem import Problem


def complement_parts(
    problem: Problem, sizes: Float[np.ndarray, " q"], rank: int, residual: float
) -> list[Part]:
    """The eigenvalues above, from the singular values of G and the rank of the point."""
    lam_w, lam_h = float(problem.lam_w), float(problem.lam_h)
    extra = problem.dim - rank
    lower, upper = complement_pairs(lam_w, lam_h, sizes)
    rows, columns = problem.num_outputs - len(sizes), problem.num_columns - len(sizes)
    return [
        Part("outside the row space: −", lower, extra, residual),
        Part("outside the row space: +", upper, extra, residual),
        Part("outside the row space: λ_W", np.array([lam_w]), rows * extra, 0.0),
        Part("outside the row space: λ_H", np.array([lam_h]), columns * extra, 0.0),
    ]


def complement_pairs(
    lam_w: float, lam_h: float, sizes: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Both roots for every σ, the smaller from the product of the roots, λ_W λ_H − σ².

    At a minimum σ = μ, where the difference of the two terms would consist of rounding errors.
    """
    upper = (lam_w + lam_h) / 2 + np.hypot((lam_w - lam_h) / 2, sizes)
    mu = np.sqrt(lam_w) * np.sqrt(lam_h)
    product = (mu - sizes) * (mu + sizes)
    return np.divide(product, upper, out=np.zeros_like(upper), where=upper > 0), upper
