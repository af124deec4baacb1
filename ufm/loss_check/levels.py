r"""The symmetric minimum of a convex loss that depends on the level of the logits (BCE, MSE).

Averaging over the permutations of the classes raises no convex equivariant f, so that for balanced
classes and d ≥ K a minimum is symmetric: Z = (ρP + (τ/K) 11ᵀ) ⊗ 1ᵀ, b = b₀1. With m = τ/K + b₀ the
logits are m + ρ(1 − 1/K) on the label and m − ρ/K elsewhere, ψ(ρ, m) is the loss there, and

    f = ψ(ρ, m) + μ√n ((K−1)|ρ| + |τ|) + λ_b K b₀²/2,

which is convex. At ρ = 0, in units of K√nμ = x: all classes have equal features iff
K/(K−1) |∂ψ/∂ρ| ≤ x, and no features (τ = 0) iff |∂ψ/∂m| ≤ x at the level that the bias takes alone.
In between τ < 0 or τ > 0 solves |∂ψ/∂m| = x.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ufm._support.bisection import bisect
from ufm.collapse.symmetric_solution import SymmetricMinimum
from ufm.loss_check.function import hessians, sampled
from ufm.losses import Loss

#: Largest level and margin of a minimiser.
_FAR = 1e4
#: Most Newton steps, and halvings of a step.
_STEPS = 60
#: Rows of logits in an evaluation, so that one program is traced.
_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Levels:
    """The three-scalar problem of a loss for K classes and λ_b, None without a bias."""

    loss: Loss
    num_classes: int
    lam_b: float | None

    def _at(self, rho: Any, m: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ψ, ∂ψ/∂ρ and ∂ψ/∂m."""
        classes = self.num_classes
        rho, m = np.broadcast_arrays(np.atleast_1d(rho), np.atleast_1d(m))
        Z = rho[:, None] * (np.eye(1, classes) - 1.0 / classes) + m[:, None]
        padded = np.concatenate([Z, np.zeros((-len(Z) % _ROWS, classes))])
        value, gradient = (x[: len(Z)] for x in sampled(self.loss, padded, 0))
        return value, gradient[:, 0] - gradient.mean(axis=1), gradient.sum(axis=1)

    @property
    def _own_level(self) -> float:
        """The level of the bias alone, at which ∂ψ/∂m + λ_b K m = 0 and Z = 0."""
        return 0.0 if self.lam_b is None else self._level(self.lam_b * self.num_classes)

    def _level(self, decay: float) -> float:
        def rising(m: Any) -> Any:
            return self._at(0.0, m)[2].reshape(m.shape) + decay * m >= 0.0

        return float(bisect(rising, np.float64(-_FAR), np.float64(_FAR)))

    @property
    def origin(self) -> float:
        """The least f at W = H = 0."""
        level, decay = self._own_level, 0.0 if self.lam_b is None else self.lam_b
        return float(self._at(0.0, level)[0][0] + 0.5 * decay * self.num_classes * level**2)

    @functools.cached_property
    def thresholds(self) -> tuple[float, float]:
        """The K√nμ from which on all features are equal, and from which on there are none."""
        unit = self.num_classes / (self.num_classes - 1)

        def slopes(m: Any) -> tuple[Any, Any]:
            _, across, along = self._at(0.0, m)
            return unit * np.abs(across).reshape(np.shape(m)), np.abs(along).reshape(np.shape(m))

        start = np.float64(self._own_level)
        merged, vanished = (float(x) for x in slopes(start))
        if merged >= vanished * (1.0 - 1e-12):
            return merged, merged
        # Features are equal at a smaller decay than they vanish: at a level from `start` to that of
        # a free bias, where ∂ψ/∂m = 0.
        end = np.float64(self._level(0.0))
        between = bisect(lambda m: np.greater_equal(*slopes(m)), start, end)
        return float(slopes(between)[1]), vanished

    def minimum(self, decay: float) -> SymmetricMinimum:
        """The minimum at K√nμ = `decay`: by bisection of m where ρ = 0, else by Newton's method."""
        classes, stiffness = self.num_classes, (self.lam_b or 0.0) * self.num_classes
        cost = decay * (classes - 1) / classes

        def pull(m: Any) -> Any:  # the slope of the cheapest τ/K and b₀ of sum m
            return (
                decay * np.sign(m) if self.lam_b is None else np.clip(stiffness * m, -decay, decay)
            )

        def rising(m: Any) -> Any:
            return self._at(0.0, m)[2].reshape(m.shape) + pull(m) >= 0.0

        merged, vanished = self.thresholds
        rho, m = 0.0, self._own_level
        if decay < vanished:
            m = float(bisect(rising, np.float64(-_FAR), np.float64(_FAR)))
        if decay < merged:
            across = float(self._at(0.0, m)[1][0])
            own = -float(np.sign(across)) * cost
            if self.lam_b is not None:
                rho, m = self._newton(own, m, pull)
            else:  # the minimum is at the kink τ = 0, or on the side to which f falls from there
                rho, m = self._newton(own, 0.0, None)
                along = float(self._at(rho, m)[2][0])
                if abs(along) > decay:
                    side = -float(np.sign(along)) * decay
                    rho, m = self._newton(own, m, lambda _: side)
        # The bias alone, as far as its slope is below that of |τ|.
        bias = 0.0 if self.lam_b is None else m
        if abs(stiffness * m) > decay:
            bias = float(np.sign(m)) * decay / stiffness
        fit = float(self._at(rho, m)[0][0]) + 0.5 * stiffness * bias**2
        value = fit + cost * abs(rho) + decay * abs(m - bias)
        return SymmetricMinimum(*map(np.asarray, (rho, (m - bias) * classes, bias, value)))

    def _newton(
        self, cost: float, m: float, pull: Callable[[float], Any] | None
    ) -> tuple[float, float]:
        """Solve ∂ψ/∂ρ + cost = 0 and ∂ψ/∂m + pull(m) = 0 from ρ = 0; without `pull` m stays."""
        classes = self.num_classes
        units = np.stack([np.eye(1, classes)[0] - 1.0 / classes, np.ones(classes)])
        units = units if pull else units[:1]

        def slopes(x: np.ndarray) -> np.ndarray:
            _, across, along = (float(y[0]) for y in self._at(*x))
            return np.array([across + cost, along + float(pull(x[1]))] if pull else [across + cost])

        x, step = np.array([0.0, m]), np.zeros(2)
        slope = slopes(x)
        for _ in range(_STEPS):
            bend = units @ hessians(self.loss, x[:1, None] * units[:1] + x[1])[0] @ units.T
            if pull:  # on the straight part of the pull its second derivative is 0
                near = 1e-6 * (1.0 + abs(x[1]))
                bend[1, 1] += float(pull(x[1] + near) - pull(x[1] - near)) / (2.0 * near)
            step[: len(units)] = np.linalg.lstsq(bend, -slope, rcond=None)[0]
            for shorter in range(_STEPS):  # along it the norm of the slopes falls, for f is convex
                new = x + 0.5**shorter * step
                at_new = slopes(new)
                if np.linalg.norm(at_new) < np.linalg.norm(slope):
                    break
            else:
                break
            x, slope = new, at_new
        return float(x[0]), float(x[1])
