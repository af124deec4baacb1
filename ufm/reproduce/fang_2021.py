r"""Fang et al. (2021): minority collapse in the layer-peeled model.

The model has budgets, no decays: (1/K)Σ‖w_k‖² ≤ E_W, (1/K)Σ‖h̄_k‖² ≤ E_H, so that for d ≥ K it is
min g(Z̄) subject to ‖Z̄‖_* ≤ K√(E_W E_H), convex, with g = Σ_k (n_k/N) L(z̄_k, k). Its minimiser
is that of g + m‖Z̄‖_* with the multiplier m at which the budget is spent: a problem of this library
with one sample for each class and class weights n_k. With weights 1 and 1/R the small classes merge
iff m ≥ 1/R (`ufm.minimum.minority_thresholds`), so that R₀ is where the budget is spent at m = 1/R.
"""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from ufm.losses import ClassWeighted, CrossEntropy
from ufm.minimum.global_minimum import global_minimum
from ufm.model.problem import Problem
from ufm.reproduce.checks import root
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_K = 10
_BUDGET = _K * (1.0 * 5.0) ** 0.5
#: R₀ is sought between these; at 1 nothing merges, as classes are balanced.
_LEAST, _MOST = 2.0, 1000.0
#: Relative: both sides are minimised to gaps of 1e-10 and less, and their norms are then known to
#: about the root of that.
_TOLERANCE = 1e-4


def minority_collapse(counts: tuple[int, ...] = (3, 5, 7)) -> Finding:
    """R₀ for each count of large classes: certified minima against a problem of three scalars."""
    rows, reasons = [], []
    for large in counts:

        def excess(log_ratio: float, large: int = large) -> float:
            ratio = float(np.exp(log_ratio))
            weights = np.where(np.arange(_K) < large, 1.0, 1.0 / ratio)
            mu = 1.0 / (ratio * _K)  # the loss is a mean over ten
            loss = ClassWeighted(CrossEntropy(), jnp.asarray(weights))
            minimum = global_minimum(Problem(loss, (1,) * _K, _K, mu, mu, None))
            if not minimum.is_exact:
                reasons.append(minimum.reason)
            return float(np.linalg.norm(minimum.logits, "nuc")) - _BUDGET

        ours = root(excess, np.log(_LEAST), np.log(_MOST), 0.1 * _TOLERANCE)
        claimed = root(lambda x, m=large: _merged(m, np.exp(x)), np.log(_LEAST), np.log(_MOST))
        ratio = float(np.exp(claimed))
        rows.append(Row(f"R₀ with {large} large classes", np.exp(ours), ratio, _TOLERANCE * ratio))
    return Finding(tuple(rows), reasons[0] if reasons else "")


def _merged(large: int, ratio: float) -> float:
    """‖Z̄‖_* − budget where the small classes are merged, at m = 1/R.

    Z̄ = ρ(projection onto differences of large classes) + u vᵀ, u along (1/A, …, −1/B, …) of the A
    large and B small classes, v = (α for the large, β for the small): by convexity and symmetry,
    and ‖Z̄‖_* = (A−1)|ρ| + ‖u‖√(Aα² + Bβ²).
    """
    small = _K - large
    up, down = 1.0 / large, -1.0 / small
    length = (large * up**2 + small * down**2) ** 0.5

    def norm(x: np.ndarray) -> float:
        rho, alpha, beta = x
        return (large - 1) * abs(rho) + length * (
            large * alpha**2 + small * beta**2 + 1e-300
        ) ** 0.5

    def objective(x: np.ndarray) -> float:
        rho, alpha, beta = x
        own, other = rho * (1 - 1 / large) + alpha * up, -rho / large + alpha * up
        logits = np.r_[own, np.full(large - 1, other), np.full(small, alpha * down)]
        first = np.logaddexp.reduce(logits) - own
        logits = np.r_[np.full(large, beta * up), np.full(small, beta * down)]
        second = np.logaddexp.reduce(logits) - beta * down
        return large * first + small / ratio * second + norm(x) / ratio

    found = minimize(objective, [5.0, 5.0, -5.0], method="Nelder-Mead", options=_PRECISE)
    return norm(found.x) - _BUDGET


_PRECISE = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 5000, "maxfev": 5000}

PAPER = Paper(
    key="fang-2021",
    reference="Fang, He, Long, Su: Exploring Deep Neural Networks via Layer-Peeled Model: Minority "
    "Collapse in Imbalanced Training (PNAS 2021)",
    arxiv="2101.12699",
    read="only the abstract was read",
    claims=(
        Claim(
            "minority-collapse",
            "Minority collapse: where large and small classes differ enough in size, classifiers "
            "of the small ones coincide.",
            "abstract; R₀, the least ratio of sizes, is computed here",
            "K=10, E_H=5, E_W=1, 3, 5 and 7 large classes",
            minority_collapse,
        ),
    ),
)
