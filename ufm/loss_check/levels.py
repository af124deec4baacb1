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
from typing import Any

import numpy as np

from ufm._support.bisection import bisect
from ufm.collapse.symmetric_solution import SymmetricMinimum
from ufm.loss_check.function import sampled
from ufm.losses import Loss

#: Largest level and margin of a minimiser.
_FAR = 1e4
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
        """The minimum at K√nμ = `decay`, by L-BFGS in ρ and τ/K, each as a difference, and b₀."""
        from scipy.optimize import minimize  # half a second, which most losses need not wait for

        classes, signs = self.num_classes, np.array([1.0, -1.0])
        lam_b = 0.0 if self.lam_b is None else self.lam_b
        costs = np.repeat([decay * (classes - 1) / classes, decay], 2)

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            rho, level = signs @ x[:2], signs @ x[2:4]
            value, across, along = (float(y[0]) for y in self._at(rho, level + x[4]))
            slope = costs + np.concatenate([across * signs, along * signs])
            fit = value + costs @ x[:4] + 0.5 * lam_b * classes * x[4] ** 2
            return fit, np.append(slope, along + lam_b * classes * x[4])

        merged, vanished = self.thresholds
        most = np.repeat([_FAR * (decay < merged), _FAR * (decay < vanished)], 2)
        own, reach = self._own_level, 0.0 if self.lam_b is None else _FAR
        box = [*((0.0, x) for x in most), (-reach, reach)]
        found = minimize(
            objective, np.array([0.0, 0.0, 0.0, 0.0, own]), jac=True, method="L-BFGS-B",
            bounds=box, options={"maxiter": 500, "ftol": 0.0, "gtol": 1e-12},
        )  # fmt: skip
        rho, level = signs @ found.x[:2], signs @ found.x[2:4]
        scalars = (rho, level * classes, found.x[4], found.fun)
        return SymmetricMinimum(*map(np.asarray, scalars))
