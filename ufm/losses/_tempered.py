r"""The bi-tempered logistic loss, of heavy-tailed p_j = exp_b(z_j − λ(z)) with Σ_j p_j = 1.

With a = t₁ ≤ 1 < b = t₂, the loss −log_a p_k − (1 − Σ_j p_j^{2−a})/(2 − a) is symmetric and convex
in the rivals' probabilities at fixed p_k, and at equal rivals it decreases in p_k. As exp_b is
decreasing and convex in λ − z_j, the loss is contrastive. At equal rivals, with M = K − 1 and
q = (1 − p)/M, the log-odds x = log p/q against one of them give everything in closed form:

    s = (M + eˣ)^{b−1} (1 − e^{−(b−1)x})/(b − 1),
    −φ'(s) = M q^{1+b−a} (1 + M e^{−ax})/(1 + M e^{−bx}).

φ decreases; it is concave below some s_c and convex above, because the derivative of log(−φ') with
respect to x,

    N(x) = bσ_b − aσ_a − (1+b−a)(1 − σ_1),   σ_t = σ(log M − tx),

has one zero, where it turns negative. Proof: N → b − a at −∞. With w_t = σ_t(1 − σ_t),

    N' = −b²w_b + a²w_a − (1+b−a)w_1.

For x ≥ 0, N ≤ (b−a)σ_1 − (1+b−a)(1−σ_1), which is negative for x ≥ log M; for smaller x ≥ 0,
w_a ≤ w_1 and a ≤ 1, so that N' < 0. For x ≤ 0, N' = Q(a) − Q(b) at a zero of N, with
Q(t) = tσ_t (t(1−σ_t) + σ_1), which increases in t: with e = −tx,

    Q'/σ_t = σ_1 + t(1−σ_t)(2 − e(2σ_t − 1) + eσ_1/t) ≥ 1/2 − t max(e−2, 0)/(1 + eᵉ) > 1/2 − t/20.

Derivatives, with q_j = p_j^b/Σ_i p_i^b, the gradient of λ, so that dp_j = p_j^b (dz_j − qᵀdz):

    ∇L = c − (1ᵀc) q,               c_j = p_j^{b−a} (p_j − y_j),
    ∇²L = (I − q1ᵀ) diag(m) (I − 1qᵀ),
    m_j = p_j^{2b−a−1} ((1+b−a) p_j − (b−a) y_j) − b (1ᵀc) q_j p_j^{b−1}.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ufm._support.bisection import bisect
from ufm._support.namespace import namespace, sigmoid, softplus
from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._base import Hyper, Label, Logits, Loss, Scalar, label_mask, show

#: Newton steps from a margin to log-odds: eight reach rounding for s up to 1e4 and K up to 1e6.
_STEPS = 10


@pytree(eq=True)
class BiTempered(Loss):
    """Bi-tempered logistic loss (Amid et al., 2019) with one-hot targets.

    L = −log_{t₁} p_k − (1 − Σ_j p_j^{2−t₁})/(2 − t₁) with p_j = exp_{t₂}(z_j − λ(z)), Σ p_j = 1;
    log_t x = (x^{1−t} − 1)/(1 − t), exp_t its inverse. `t1` in [0, 1] bounds the loss, `t2` > 1
    gives p heavy tails. Raises `ValueError` for other values.
    """

    t1: Hyper = 0.8
    t2: Hyper = 1.2
    name: ClassVar[str] = "BiTempered"
    shift_invariant: ClassVar[bool] = True
    contrastive: ClassVar[bool] = True
    heavy_tailed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        set_hyperparameter(self, "t1", lambda t: (t >= 0) & (t <= 1), "in [0, 1]")
        set_hyperparameter(self, "t2", lambda t: (t > 1) & (t <= 4), "in (1, 4]")

    def is_convex(self) -> bool:
        return False

    def smoothness(self) -> tuple[float, float]:
        return 8.0, 32.0

    def value(self, z: Logits, label: Label) -> Scalar:
        t1, t2 = (jnp.asarray(t, z.dtype) for t in (self.t1, self.t2))
        log_p = _log_tempered(z, t2)
        gap = 1.0 - t1
        bounded = gap > 0
        log_label = jnp.sum(jnp.where(label_mask(z, label), log_p, 0.0))
        power = jnp.expm1(gap * log_label) / jnp.where(bounded, gap, 1.0)
        entropy = (1.0 - jnp.sum(jnp.exp((2.0 - t1) * log_p))) / (2.0 - t1)
        return -jnp.where(bounded, power, log_label) - entropy

    def gradient(self, z: Logits, label: Label) -> Logits:
        c, q, _ = self._derivatives(z, label)
        # At the label's entry both terms are near −1ᵀc where p_k is near 1.
        mask = label_mask(z, label)
        rest = jnp.where(mask, 0.0, c - jnp.sum(c) * q)
        return jnp.where(mask, -jnp.sum(rest), rest)

    def curvature(self, z: Logits, label: Label) -> Any:
        _, q, m = self._derivatives(z, label)
        return q, m

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        q, m = curvature
        moved = m * (x - jnp.sum(q * x))
        return moved - jnp.sum(moved) * q

    def _derivatives(self, z: Logits, label: Label) -> tuple[Logits, Logits, Logits]:
        """c, q and m of the module."""
        a, b = (jnp.asarray(t, z.dtype) for t in (self.t1, self.t2))
        mask = label_mask(z, label)
        log_p = _log_tempered(z, b)
        p, slope = jnp.exp(log_p), jnp.exp(b * log_p)
        q = slope / jnp.sum(slope)
        power, root = jnp.exp((b - a) * log_p), jnp.exp((b - 1.0) * log_p)
        # p_k − 1, which is a difference of nearly equal numbers, as a sum.
        away = jnp.where(mask, -jnp.sum(jnp.where(mask, 0.0, p)), p)
        c = power * away
        change = power * root * (p + (b - a) * away)
        return c, q, change - b * jnp.sum(c) * q * root

    def profile(self, s: Any, num_classes: int) -> Any:
        xp, x = namespace(s), self._log_odds(s, num_classes)
        others = math.log(num_classes - 1)
        a = xp.asarray(self.t1, x.dtype)
        log_p, log_q, gap = -softplus(others - x), -xp.logaddexp(others, x), 1.0 - a
        bounded = gap > 0
        power = xp.where(bounded, xp.expm1(gap * log_p) / xp.where(bounded, gap, 1.0), log_p)
        entropy = -xp.expm1((2.0 - a) * log_p) - xp.exp(others + (2.0 - a) * log_q)
        return -power - entropy / (2.0 - a)

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        xp, x = namespace(s), self._log_odds(s, num_classes)
        others = math.log(num_classes - 1)
        a, b = (xp.asarray(t, x.dtype) for t in (self.t1, self.t2))
        odds = softplus(others - a * x) - softplus(others - b * x)
        return -xp.exp(others - (1.0 + b - a) * xp.logaddexp(others, x) + odds)

    def profile_convex_above(self, num_classes: int) -> Any:
        xp, others = namespace(self.t1, self.t2), math.log(num_classes - 1)
        a, b = xp.asarray(self.t1), xp.asarray(self.t2)

        def falling(x: Any) -> Any:  # N(x) ≤ 0 of the module
            rises = b * sigmoid(others - b * x) - a * sigmoid(others - a * x)
            return rises <= (1.0 + b - a) * sigmoid(x - others)

        # For x ≤ 0, N ≥ (b−a)(2σ−1) − (1−σ), σ = σ(L−x).
        low = xp.minimum(others + xp.log((b - a) / (1.0 + b - a)), 0.0)
        return sigmoid(bisect(falling, low, others + 0.0 * low) - others)

    def probability_at(self, s: Any, num_classes: int) -> Any:
        return sigmoid(self._log_odds(s, num_classes) - math.log(num_classes - 1))

    def margin_at(self, p: Any, num_classes: int) -> Any:
        xp, others = namespace(p), math.log(num_classes - 1)
        x = others + xp.log(p) - xp.log1p(-p)
        return _margin(x, xp.asarray(self.t2, x.dtype) - 1.0, others)[0]

    def _log_odds(self, s: Any, num_classes: int) -> Any:
        """x at margin s, by Newton's method for log|s| as a function of log|x|."""
        xp, others = namespace(s), math.log(num_classes - 1)
        rate = xp.asarray(self.t2, s.dtype) - 1.0
        size = xp.where(s == 0, 1.0, xp.abs(s))
        # With eˣ or M alone in place of M + eˣ, |x| is too large: the start is the lower of both.
        plain, scaled = rate * size, rate * size * xp.exp(-rate * others)
        there = scaled < 1.0
        near = xp.where(there, -xp.log1p(-xp.where(there, scaled, 0.0)), xp.inf)
        above = xp.minimum(xp.log1p(plain), near)
        start = xp.where(s < 0, -xp.log1p(scaled), above) / rate

        def step(x: Any) -> Any:
            margin, slope = _margin(x, rate, others)
            return x * xp.exp(xp.log(size / xp.abs(margin)) * margin / (x * slope))

        if xp is jnp:
            found = jax.lax.fori_loop(0, _STEPS, lambda _, x: step(x), start)
        else:
            found = start
            for _ in range(_STEPS):
                found = step(found)
        return xp.where(s == 0, 0.0, found)

    def label(self) -> str:
        return f"BiTempered(t₁={show(self.t1)}, t₂={show(self.t2)})"


def _log_tempered(z: Logits, t: Scalar) -> Logits:
    """log p of the tempered softmax, with λ by Newton's method.

    The method is applied to S^(1−t), S = Σ_j p_j, which is linear in λ for equal logits. From
    λ = max z it takes a few steps. Two more, differentiated, give derivatives up to the third.
    """
    rate = t - 1.0

    def log_p(level: Scalar, logits: Logits) -> Logits:
        return -jnp.log1p(rate * (level - logits)) / rate

    def step(level: Scalar, logits: Logits) -> Scalar:
        logs = log_p(level, logits)
        size = jnp.sum(jnp.exp(logs))
        return level + (size**t - size) / (rate * jnp.sum(jnp.exp(t * logs)))

    fixed, fixed_rate = jax.lax.stop_gradient(z), jax.lax.stop_gradient
    level = jax.lax.fori_loop(0, 12, lambda _, x: fixed_rate(step(x, fixed)), jnp.max(fixed))
    level = jax.lax.stop_gradient(level)
    for _ in range(2):
        level = step(level, z)
    return log_p(level, z)


def _margin(x: Any, rate: Any, others: float) -> tuple[Any, Any]:
    """s and ds/dx at x, where b = 1 + rate and M = exp(others)."""
    xp = namespace(x)
    power = xp.exp(rate * xp.logaddexp(others, x))
    margin = power * (-xp.expm1(-rate * x) / rate)
    # M q p^{1−b} + p q^{1−b}, and q^{1−b} is `power`.
    slope = power * (sigmoid(others - x) * xp.exp(-rate * x) + sigmoid(x - others))
    return margin, slope
