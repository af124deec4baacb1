r"""Rescaled squared error at symmetric points: two piecewise linear equations and a dual bound.

m = τ/K + b₀, the mean level of the logits, is split between τ (cost μ√n |τ|) and b₀ (cost
λ_b K b₀²/2) by b₀ = min(m, μ√n/λ_b). All functions are elementwise, in NumPy or in JAX.
"""

import dataclasses
from typing import Any

import numpy as np

from ufm._support.bisection import bisect
from ufm._support.namespace import namespace
from ufm.losses import MSE


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """The problem with one sample per class: κ and M of the loss, μ√n, and λ_b or None."""

    loss: MSE
    num_classes: int
    rate: Any
    lam_b: Any

    @property
    def level_cap(self) -> Any:
        """μ√n/λ_b, the largest part of m that b₀ takes."""
        if self.lam_b is None:
            return 0.0 * self.rate
        xp = namespace(self.rate, self.lam_b)
        free = xp.asarray(self.lam_b) <= 0
        return xp.where(free, xp.inf, self.rate / xp.where(free, 1.0, self.lam_b))

    @property
    def bias_cost(self) -> Any:
        """λ_b K."""
        return 0.0 if self.lam_b is None else self.lam_b * self.num_classes

    def rho(self, m: Any) -> Any:
        """Best ρ ≥ 0 for a given mean level."""
        scale, share = self.loss.scale, 1.0 / self.num_classes
        curvature = scale * (1.0 - share) + share
        pull = scale * self.loss.target - self.rate * self.num_classes - (scale - 1.0) * m
        return namespace(m).maximum(pull / curvature, 0.0)

    def level(self) -> Any:
        """The m at which the increasing derivative of min_ρ f with respect to m turns positive."""
        scale, target, k = self.loss.scale, self.loss.target, self.num_classes
        low = 0.0 * (self.rate + target + scale)
        xp = namespace(low)

        def rising(m: Any) -> Any:
            rho = self.rho(m)
            label_part = scale * (rho * (1.0 - 1.0 / k) + m - target)
            cost = xp.where(m < self.level_cap, self.bias_cost * m, self.rate * k)
            return label_part + (k - 1.0) * (m - rho / k) + cost >= 0.0

        return bisect(rising, low, low + target)

    def minimum(self) -> tuple[Any, Any, Any, Any]:
        """ρ, τ, b₀ and the value of f."""
        m, k = self.level(), self.num_classes
        rho, bias = self.rho(m), namespace(m).minimum(m, self.level_cap)
        tau = k * (m - bias)
        on_label = rho * (1.0 - 1.0 / k) + m - self.loss.target
        off_label = m - rho / k
        fit = 0.5 * (self.loss.scale * on_label**2 + (k - 1.0) * off_label**2)
        cost = self.rate * ((k - 1.0) * rho + tau) + 0.5 * self.bias_cost * bias**2
        return rho, tau, bias, fit + cost

    def origin_level(self) -> Any:
        """The best level at ρ = 0: κM/(κ + K − 1 + Kλ_b) with a bias, which takes all of it there
        (it would not only where ρ* > 0), and 0 without.
        """
        if self.lam_b is None:
            return 0.0
        scale = self.loss.scale
        return scale * self.loss.target / (scale + (self.num_classes - 1.0) + self.bias_cost)

    def threshold(self) -> Any:
        """The μ√n at and above which ρ* = 0: (κM − (κ−1)m)/K, m the level of the origin."""
        scale = self.loss.scale
        return (scale * self.loss.target - (scale - 1.0) * self.origin_level()) / self.num_classes

    def lower_bound(self) -> tuple[float, float]:
        """A lower bound on f by duality, and the rounding that it allows for; on the host.

        A dual point has one entry u on the label and w elsewhere, in units of a sample's:

            f ≥ −(u²/(2κ) + Mu + (K−1) w²/2) − (u + (K−1)w)²/(2Kλ_b),

        if |u − w| and |u + (K−1)w|, the singular values of G times K√n, are at most Kμ√n; a free
        bias requires u + (K−1)w = 0. The optimal dual point is ∇g at the minimum.
        """
        scale, target, k = float(self.loss.scale), float(self.loss.target), self.num_classes
        rho, tau, bias, _ = map(float, self.minimum())
        m, eps = tau / k + bias, float(np.finfo(float).eps)
        on = scale * (rho * (1.0 - 1.0 / k) + m - target)
        off = m - rho / k
        most = (1.0 - 16 * eps) * float(self.rate) * k
        across, along = (float(np.clip(x, -most, most)) for x in (on - off, on + (k - 1) * off))
        lam_b = None if self.lam_b is None else float(self.lam_b)
        if lam_b == 0.0:
            along = 0.0
        u, w = ((k - 1) * across + along) / k, (along - across) / k
        bias_term = along**2 / (2 * k * lam_b) if lam_b else 0.0
        terms = np.array([u**2 / (2 * scale), target * u, 0.5 * (k - 1) * w**2, bias_term])
        # Errors of the terms, and of u and w, which may be differences of larger numbers.
        size_u, size_w = ((k - 1) * abs(across) + abs(along)) / k, (abs(along) + abs(across)) / k
        errors = (abs(u) / scale + target) * size_u + (k - 1) * abs(w) * size_w
        rounding = 16 * eps * (errors + np.sum(np.abs(terms)))
        return float(-np.sum(terms) - rounding), float(rounding)
