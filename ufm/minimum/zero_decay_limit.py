r"""The global minimum as the decays go to zero with their ratio fixed, and its first correction.

V̄ = Z̄ + b1ᵀ are the logits of the classes, a column each, D = diag(n_k), and μ/λ_b is fixed.

**Hard margins** (CE, at any temperature τ, with or without class weights a_k). Logits grow without
bound. Z̄/(τ log(1/μ)) tends to the Ẑ of the least ‖ẐD^½‖_* with every margin v̂_kk − v̂_jk ≥ 1:

    no bias, or λ_b > 0:   Ẑ = P                        (SELI: Thrampoulidis et al., 2022)
    λ_b = 0:               Ẑ = P − (P n/N) 1ᵀ,  b̂ = P n/N

with P = I − 11ᵀ/K: a decayed bias stays bounded, and a free one centres Z̄ over the samples, since
projections do not raise ‖·‖_*. With ẐD^½ = USVᵀ, Ẑ solves this convex problem if B = −UVᵀ has no
negative entry off the diagonal: B is then the multiplier of the margins. It is checked. The margins
of the classes at small μ are, up to O(1/log),

    m_jk = τ log(a_k √n_k / (N μ τ B_jk)),    f ≈ μ Σ_k √n_k Σ_{j≠k} B_jk (τ + m_jk),

and Z̄ has the columns −m_jk without their mean, centred over the samples if λ_b = 0. They reach
the limit as slowly as 1/log(1/μ), which is why the first correction matters. With λ_b > 0 there is
no such formula: the limit is far until log(1/μ) exceeds √N μ/λ_b.

**Target logits** (LS, MSE; CE and BCE with targets that have no zeros). L(·, k) has a minimiser:
V̄ tends to T, the logarithms of the smoothed labels or of the target probabilities without their
mean (LS, CE), the log-odds of the target tags (BCE), or the targets (MSE), and to first order

    v̄_k = t_k − (Nμ/√n_k) S_k^† u_k,   S_k = ∇²L(t_k, k),  u_k the columns of UVᵀ,
    f ≈ Σ_k (n_k/N) L(t_k, k) + μ‖Z̄D^½‖_* − (μ²N/2) Σ_k u_kᵀ S_k^† u_k,

Z̄ = T without bias, T centred over the samples with a free one. MSE without bias is so at every μ
below its thresholds, not only to first order. With λ_b > 0 these losses are not covered.

    >>> skewed = Problem(loss=CrossEntropy(), class_counts=(1000, 1000, 100, 100), dim=4,
    ...                  lam_w=5e-3, lam_h=5e-3, lam_b=None)
    >>> limit = zero_decay_limit(skewed)
    >>> limit.geometry().cosine_w.round(4)       # large–large, large–small, small–small
    array([-0.459 , -0.3821,  0.0794])
    >>> limit.first_order(1e-8).geometry().cosine_w.round(4)
    array([-0.4907, -0.3753,  0.1062])
"""

import numpy as np
from jax import numpy as jnp
from jaxtyping import Float

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.losses import (
    MSE,
    ClassWeighted,
    CrossEntropy,
    LabelSmoothing,
    LogisticTargets,
    SoftmaxTargets,
    SquaredTargets,
    TemperatureCE,
)
from ufm.minimum.size_geometry import SizeGeometry, geometry_of
from ufm.model.class_means import class_sizes
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

_ZERO = 1e-10
_MARGINS, _TARGETS = "hard margins", "target logits"
_TOO_LARGE = "mu={:g} is too large for the first-order formula: take a tenth"


@pytree()
class FirstOrder(Shown):
    """The minimiser near the limit: Z̄ = `logits` (K, K), b = `bias` or None, f ≈ `value`."""

    problem: Problem
    mu: float
    value: float
    logits: Float[np.ndarray, "K m"]
    bias: Float[np.ndarray, " K"] | None

    def geometry(self) -> SizeGeometry:
        """Norms and cosines of classifier and class means."""
        return geometry_of(self.problem, self.logits)


@pytree()
class ZeroDecayLimit(Shown):
    """The limit and what the corrections to it are made of (see the module).

    `rule` is "hard margins": `logits` is Ẑ, of margin 1; or "target logits": `logits` is the limit
    of Z̄ itself. `targets` is V̂ or T, `dual` is UVᵀ of ẐD^½. If `is_exact`, no entry of −UVᵀ off
    the diagonal is negative (hard margins), which proves Ẑ optimal.
    """

    problem: Problem
    rule: str = static()
    logits: Float[np.ndarray, "K m"]
    targets: Float[np.ndarray, "K m"]
    dual: Float[np.ndarray, "K m"]
    nuclear_norm: float
    is_exact: bool

    _printed = ("rule", "is_exact", "nuclear_norm", "logits")

    def geometry(self) -> SizeGeometry:
        """Norms (up to a common factor with hard margins) and cosines at the limit."""
        return geometry_of(self.problem, self.logits)

    def distance(self, logits: Float[np.ndarray, "K m"]) -> float:
        """How far class logits Z̄ (K, K) are from the limit, in ‖Z̄D^½‖_F.

        With hard margins ‖Ẑ′ − Z̄′‖, both of norm 1; with target logits ‖Ẑ − Z̄‖/‖Ẑ‖.
        """
        root = np.sqrt(np.asarray(class_sizes(self.problem)))
        there, here = self.logits * root, np.asarray(logits) * root
        size = np.linalg.norm(there)
        scale = 1.0 if self.rule == _TARGETS else size / np.linalg.norm(here)
        with np.errstate(divide="ignore", invalid="ignore"):  # a limit of 0 has no unit
            return float(np.linalg.norm(there - scale * here) / size)

    def first_order(self, mu: float) -> FirstOrder:
        """The minimiser at √(λ_W λ_H) = μ to first order, with the problem's ratios of decays.

        Raises `ValueError` unless 0 < μ and all margins of the formula are positive there, or, with
        target logits, the term in μ² of f is at most half of that in μ; and for hard margins with
        λ_b > 0.
        """
        sizes = np.asarray(class_sizes(self.problem))
        if not mu > 0:
            raise ValueError(f"mu must be positive, got {mu}")
        return (self._near_margins if self.rule == _MARGINS else self._near_targets)(mu, sizes)

    def _near_margins(self, mu: float, sizes: Float[np.ndarray, " m"]) -> FirstOrder:
        problem, (tau, weights) = self.problem, _margin_scale(self.problem)
        B, root, samples = -self.dual, np.sqrt(sizes), float(sizes.sum())
        off = ~np.eye(len(B), dtype=bool)
        if problem.lam_b:
            raise ValueError("no first-order formula with a decayed bias: use decay_path")
        if not self.is_exact:
            raise ValueError("no first-order formula: some margins are larger than 1 at the limit")
        with np.errstate(divide="ignore", invalid="ignore"):
            margins = tau * np.log(weights * root / (samples * mu * tau * B))
        margins = np.where(off, margins, 0.0)
        if margins[off].min() <= 0:
            raise ValueError(_TOO_LARGE.format(mu))
        V = margins.mean(axis=0) - margins
        value = mu * float(np.sum(np.where(off, root * B * (tau + margins), 0.0)))
        return self._at(mu, value, V, sizes)

    def _near_targets(self, mu: float, sizes: Float[np.ndarray, " m"]) -> FirstOrder:
        loss, samples = self.problem.loss, float(sizes.sum())
        steps, value, second = [], mu * self.nuclear_norm, 0.0
        for k, (size, target) in enumerate(zip(sizes, self.targets.T, strict=True)):
            S = np.asarray(loss.hessian(jnp.asarray(target), k))
            # A common shift is all that the loss ignores, and no part of `dual`: probabilities may
            # be tiny, so that a cutoff of small eigenvalues would lose their directions.
            S = S + loss.shift_invariant * np.mean(np.diag(S)) / len(S)
            pull = np.linalg.solve(S, self.dual[:, k])
            steps.append(-samples * mu / size**0.5 * pull)
            value += size / samples * float(loss.value(jnp.asarray(target), k))
            second += 0.5 * mu**2 * samples * float(self.dual[:, k] @ pull)
        if second > 0.5 * mu * self.nuclear_norm:  # not below the thresholds of MSE
            raise ValueError(_TOO_LARGE.format(mu))
        return self._at(mu, value - second, self.targets + np.stack(steps, axis=1), sizes)

    def _at(
        self, mu: float, value: float, V: Float[np.ndarray, "K m"], sizes: Float[np.ndarray, " m"]
    ) -> FirstOrder:
        """Move the mean over the samples into a free bias."""
        if not self.problem.has_bias:
            return FirstOrder(self.problem, mu, value, V, None)
        bias = V @ sizes / sizes.sum()
        return FirstOrder(self.problem, mu, value, V - bias[:, None], bias)


@by_variant
def zero_decay_limit(problem: Problem) -> ZeroDecayLimit:
    """Compute the limit of the global minimisers as all decays go to zero in proportion.

    It is attained in d ≥ K (K − 1 for losses that ignore a common shift of the logits).

    Args:
        problem: The problem, with any class counts; its decays give the ratios.

    Returns:
        The rule, Ẑ or the limit of Z̄, and its geometry, distance and first-order formula.

    Raises:
        ValueError: No rule covers the loss and the bias, or a decay is zero or a batch.
    """
    if np.ndim(problem.mu()) or not float(problem.mu()) > 0:
        raise ValueError("lam_w and lam_h must be positive numbers: the limit keeps their ratio")
    targets = _target_logits(problem)
    if targets is not None and problem.lam_b:
        raise ValueError(
            f"the limit of {problem.loss.label()} with a decayed bias is not covered: set lam_b to "
            "0 (free) or None (no bias), or use decay_path"
        )
    rule = _MARGINS if targets is None else _TARGETS
    if targets is None:
        _margin_scale(problem)
        targets = np.eye(problem.num_classes) - 1.0 / problem.num_classes
    sizes = np.asarray(class_sizes(problem))
    is_free = problem.has_bias and not problem.lam_b
    logits = targets - (targets @ sizes / sizes.sum())[:, None] if is_free else targets
    U, S, Vt = np.linalg.svd(logits * np.sqrt(sizes), full_matrices=False)
    there = _ZERO * S[0] < S
    dual = U[:, there] @ Vt[there]
    least = float(np.max(np.where(np.eye(*dual.shape, dtype=bool), -np.inf, dual)))
    exact = rule == _TARGETS or least <= 0.0
    return ZeroDecayLimit(problem, rule, logits, targets, dual, float(S.sum()), exact)


def _margin_scale(problem: Problem) -> tuple[float, Float[np.ndarray, " K"]]:
    """τ and a_k of a cross-entropy. Raises `ValueError` for another loss."""
    loss, weights = problem.loss, np.ones(problem.num_classes)
    if isinstance(loss, ClassWeighted):
        loss, weights = loss.loss, np.asarray(loss.weights, float)
    match loss:
        case CrossEntropy() | LabelSmoothing(alpha=0.0):
            return 1.0, weights
        case TemperatureCE(temperature=temperature):
            return float(temperature), weights
    raise ValueError(
        f"the limit of {problem.loss.label()} at zero decay is not covered: CE (with temperature), "
        "LS and MSE are, with or without class weights, and targets without zeros"
    )


def _target_logits(problem: Problem) -> Float[np.ndarray, "K m"] | None:
    """T, a minimiser of L(·, k) for each class; None for a loss without one."""
    loss, classes = problem.loss, problem.num_classes
    loss = loss.loss if isinstance(loss, ClassWeighted) else loss
    match loss:
        case SquaredTargets(targets=targets):
            return np.asarray(targets, float).T
        case SoftmaxTargets():
            y = np.stack([loss.target(jnp.zeros(loss.num_outputs), k) for k in range(classes)])
            logs = np.log(y, where=y > 0, out=np.full(y.shape, np.nan)).T
            return None if np.isnan(logs).any() else logs - logs.mean(axis=0)
        case LogisticTargets(targets=targets) if np.all(abs(np.asarray(targets) - 0.5) < 0.5):
            y = np.asarray(targets, float).T
            return np.log(y) - np.log1p(-y)
        case LabelSmoothing(alpha=alpha) if alpha > 0:
            share = float(alpha) / classes
            gap = np.log(1.0 - float(alpha) + share) - np.log(share)
            return gap * (np.eye(classes) - 1.0 / classes)
        case MSE(target=target):
            return float(target) * np.eye(classes)
    return None
