r"""Losses of the label's probability alone, with u = 1 − p_k: Poly-1, GCE, SCE, Taylor-CE and MAE.

    loss            L              dL/dt          d²L/dt²               convex for p_k ≥
    Poly1           ℓ + εu         u (1 + εp)     pu (1 + ε(p − u))     (ε − 1)/(2ε)
    GeneralizedCE   (1 − p^q)/q    u p^q          u p^q (p − qu)        q/(1 + q)
    SymmetricCE     αℓ − βAu       u (α − βAp)    pu (α − βA(p − u))    Poly1's, ε = −βA/α
    TaylorCE        Σ_{i≤m} uⁱ/i   u (1 − u^m)    pu (1 − (m+1) u^m)    1 − (m+1)^(−1/m)
    MAE             u              up             up (p − u)            1/2

t are the log-odds against the label (see `ufm.losses._softmax`), and dp/dt = −pu. Each loss
decreases in p_k. It is contrastive, since at a given mean margin p_k is largest at equal rivals.
"""

from typing import Any, ClassVar

import jax.numpy as jnp

from ufm._support.namespace import log_sigmoid, namespace, sigmoid, softplus
from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._base import Hyper, Label, Logits, Scalar, show
from ufm.losses._odds_conjugate import OddsConjugate
from ufm.losses._softmax import SoftmaxLoss, log_odds

#: Largest number of terms of a Taylor series.
_MOST_TERMS = 16


def _like(t: Any, number: Any) -> Any:
    return namespace(t).asarray(number, t.dtype)


def _poly_convex_above(epsilon: Any) -> Any:
    xp = namespace(epsilon)
    bent = xp.where(epsilon > 1.0, epsilon, 1.0)
    return (bent - 1.0) / (2.0 * bent)


@pytree(eq=True)
class Poly1(OddsConjugate):
    """Poly-1 (Leng et al., 2022): L = −log p_k + ε (1 − p_k).

    Raises `ValueError` for epsilon < −1, where L would increase in p_k.
    """

    epsilon: Hyper = 1.0
    name: ClassVar[str] = "Poly-1"

    def __post_init__(self) -> None:
        set_hyperparameter(self, "epsilon", lambda e: e >= -1, "at least -1 and finite")

    def of_log_odds(self, t: Any) -> Any:
        return softplus(t) + _like(t, self.epsilon) * sigmoid(t)

    def log_odds_slope(self, t: Any) -> Any:
        # 1 + εp without cancellation at ε near −1.
        epsilon = _like(t, self.epsilon)
        return sigmoid(t) * ((1.0 + epsilon) * sigmoid(-t) + sigmoid(t))

    def log_odds_curvature(self, t: Any) -> Any:
        u, p = sigmoid(t), sigmoid(-t)
        return p * u * (1.0 + _like(t, self.epsilon) * (p - u))

    def far_slope(self) -> float:
        return 1.0

    def rounding(self, z: Logits, label: Label) -> Scalar:
        # For ε < 0 the two terms cancel for p_k near 1.
        t, _ = log_odds(z, label)
        return super().rounding(z, label) + jnp.abs(_like(t, self.epsilon)) * sigmoid(t)

    def convex_above(self) -> Any:
        return _poly_convex_above(namespace(self.epsilon).asarray(self.epsilon))

    def margin_slope(self) -> Any:
        # softplus(t) ≥ t, and softplus(t) − σ(t) ≥ t/2, with the least difference .08 at t = .88.
        return namespace(self.epsilon).where(self.epsilon >= 0, 1.0, 0.5)

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        size = 1.0 + abs(self.epsilon)
        return 2.5 * size, 8.0 * size

    def label(self) -> str:
        return f"Poly-1(ε={show(self.epsilon)})"


@pytree(eq=True)
class GeneralizedCE(SoftmaxLoss):
    """Generalised cross-entropy (Zhang & Sabuncu, 2018): L = (1 − p_k^q)/q.

    `exponent` is q: CE in the limit 0, MAE at 1. Raises `ValueError` unless 0 < exponent ≤ 1.
    """

    exponent: Hyper = 0.7
    name: ClassVar[str] = "GCE"

    def __post_init__(self) -> None:
        set_hyperparameter(self, "exponent", lambda q: (q > 0) & (q <= 1), "in (0, 1]")

    def of_log_odds(self, t: Any) -> Any:
        q = _like(t, self.exponent)
        return -namespace(t).expm1(-q * softplus(t)) / q

    def log_odds_slope(self, t: Any) -> Any:
        return sigmoid(t) * namespace(t).exp(-_like(t, self.exponent) * softplus(t))

    def log_odds_curvature(self, t: Any) -> Any:
        bracket = sigmoid(-t) - _like(t, self.exponent) * sigmoid(t)
        return self.log_odds_slope(t) * bracket

    def convex_above(self) -> Any:
        q = namespace(self.exponent).asarray(self.exponent)
        return q / (1.0 + q)

    def smoothness(self) -> tuple[float, float]:
        return 2.5, 8.0

    def label(self) -> str:
        return f"GCE(q={show(self.exponent)})"


@pytree(eq=True)
class SymmetricCE(OddsConjugate):
    """Symmetric cross-entropy (Wang et al., 2019): L = −α log p_k − β A (1 − p_k).

    `ce_weight` is α > 0, `rce_weight` β ≥ 0, and `log_zero` A ≤ 0 replaces log 0. Raises
    `ValueError` for other values.
    """

    ce_weight: Hyper = 0.1
    rce_weight: Hyper = 1.0
    log_zero: Hyper = -4.0
    name: ClassVar[str] = "SCE"

    def __post_init__(self) -> None:
        set_hyperparameter(self, "ce_weight", lambda a: a > 0, "positive and finite")
        set_hyperparameter(self, "rce_weight", lambda b: b >= 0, "non-negative and finite")
        set_hyperparameter(self, "log_zero", lambda a: a <= 0, "at most 0 and finite")

    def _weights(self, t: Any) -> tuple[Any, Any]:
        """α and −βA."""
        return _like(t, self.ce_weight), _like(t, -self.rce_weight * self.log_zero)

    def of_log_odds(self, t: Any) -> Any:
        alpha, beta = self._weights(t)
        return alpha * softplus(t) + beta * sigmoid(t)

    def log_odds_slope(self, t: Any) -> Any:
        alpha, beta = self._weights(t)
        return sigmoid(t) * (alpha + beta * sigmoid(-t))

    def log_odds_curvature(self, t: Any) -> Any:
        (alpha, beta), u, p = self._weights(t), sigmoid(t), sigmoid(-t)
        return p * u * (alpha + beta * (p - u))

    def far_slope(self) -> Any:
        return self.ce_weight

    def margin_slope(self) -> Any:
        return self.ce_weight

    def convex_above(self) -> Any:
        epsilon = -(self.rce_weight * self.log_zero) / self.ce_weight
        return _poly_convex_above(namespace(epsilon).asarray(epsilon))

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        size = self.ce_weight - self.rce_weight * self.log_zero
        return 2.5 * size, 8.0 * size

    def label(self) -> str:
        numbers = (self.ce_weight, self.rce_weight, self.log_zero)
        return "SCE(α={}, β={}, A={})".format(*map(show, numbers))


@pytree(eq=True)
class TaylorCE(SoftmaxLoss):
    """Taylor cross-entropy (Feng et al., 2020): L = Σ_{i=1}^m (1 − p_k)^i / i.

    `terms` is the integer m; m = 1 is MAE. Raises `ValueError` unless 1 ≤ terms ≤ 16.
    """

    terms: Hyper = 2.0
    name: ClassVar[str] = "Taylor-CE"

    def __post_init__(self) -> None:
        allowed = f"a whole number from 1 to {_MOST_TERMS}"
        whole = lambda m: (m >= 1) & (m <= _MOST_TERMS) & (m == m // 1)  # noqa: E731  # as elsewhere
        set_hyperparameter(self, "terms", whole, allowed)

    def of_log_odds(self, t: Any) -> Any:
        xp, u = namespace(t), sigmoid(t)
        value = xp.zeros_like(u)
        for i in range(_MOST_TERMS, 0, -1):  # Horner, from the smallest term
            value = u * (value + xp.where(i <= _like(t, self.terms), 1.0 / i, 0.0))
        return value

    def log_odds_slope(self, t: Any) -> Any:
        # 1 − u^m from the logarithm of u: p is tiny for u near 1.
        return -sigmoid(t) * namespace(t).expm1(_like(t, self.terms) * log_sigmoid(t))

    def log_odds_curvature(self, t: Any) -> Any:
        m = _like(t, self.terms)
        power = namespace(t).exp(m * log_sigmoid(t))
        return sigmoid(-t) * sigmoid(t) * (1.0 - (m + 1.0) * power)

    def convex_above(self) -> Any:
        xp = namespace(self.terms)
        m = xp.asarray(self.terms)
        return -xp.expm1(-xp.log1p(m) / m)

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        return 1.0 + self.terms, (1.0 + self.terms) ** 2

    def label(self) -> str:
        return f"Taylor-CE(m={show(self.terms)})"


@pytree(eq=True)
class MAE(SoftmaxLoss):
    """Mean absolute error of probabilities (Ghosh et al., 2017): L = 1 − p_k, half ‖p − e_k‖₁."""

    name: ClassVar[str] = "MAE"

    def of_log_odds(self, t: Any) -> Any:
        return sigmoid(t)

    def log_odds_slope(self, t: Any) -> Any:
        return sigmoid(t) * sigmoid(-t)

    def log_odds_curvature(self, t: Any) -> Any:
        return sigmoid(t) * sigmoid(-t) * (sigmoid(-t) - sigmoid(t))

    def convex_above(self) -> Any:
        return 0.5
