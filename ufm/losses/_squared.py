"""Squared error against one-hot targets."""

from typing import Any, ClassVar

import jax.numpy as jnp

from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._base import Hyper, Label, Logits, Loss, Scalar, label_mask, show


@pytree(eq=True)
class MSE(Loss):
    """Squared error against one-hot targets: L = ½ [κ (z_k − M)² + Σ_{j≠k} z_j²].

    `scale` is κ, `target` is M (Hui & Belkin, 2021, use κ, M > 1 with many classes). Both are
    1 by default. Raises `ValueError` unless both are positive.
    """

    scale: Hyper = 1.0
    target: Hyper = 1.0
    name: ClassVar[str] = "MSE"
    has_conjugate: ClassVar[bool] = True
    quadratic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("scale", "target"):
            set_hyperparameter(self, name, lambda x: x > 0, "positive and finite")

    def _weights(self, z: Logits, label: Label) -> Logits:
        return jnp.where(label_mask(z, label), jnp.asarray(self.scale, z.dtype), 1.0)

    def _residual(self, z: Logits, label: Label) -> Logits:
        return z - jnp.where(label_mask(z, label), jnp.asarray(self.target, z.dtype), 0.0)

    def is_convex(self) -> bool:
        return True

    def value(self, z: Logits, label: Label) -> Scalar:
        return 0.5 * jnp.sum(self._weights(z, label) * self._residual(z, label) ** 2)

    def gradient(self, z: Logits, label: Label) -> Logits:
        return self._weights(z, label) * self._residual(z, label)

    def curvature(self, z: Logits, label: Label) -> Any:
        return (self._weights(z, label),)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        return curvature[0] * x

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = Σ_j γ_j²/(2 w_j) + M γ_k, w = κ on the label and 1 elsewhere."""
        # A single sum, so that every entry of γ has one computed value (see `ufm.model.rounding`).
        target = jnp.where(label_mask(dual, label), jnp.asarray(self.target, dual.dtype), 0.0)
        return jnp.sum(dual * (0.5 * dual / self._weights(dual, label) + target))

    def rounding(self, z: Logits, label: Label) -> Scalar:
        size = jnp.abs(z) + jnp.where(label_mask(z, label), jnp.asarray(self.target, z.dtype), 0.0)
        return self.value(z, label) + jnp.sum(jnp.abs(self.gradient(z, label)) * size)

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        # z minus the target: a small difference of larger numbers.
        target = jnp.asarray(self.target, z.dtype)
        return jnp.maximum(self.scale, 1.0) * (jnp.linalg.norm(size) + target)

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        on_label = jnp.sum(jnp.where(label_mask(dual, label), jnp.abs(dual), 0.0))
        quadratic = jnp.sum(dual**2 / self._weights(dual, label))
        return quadratic + jnp.asarray(self.target, dual.dtype) * on_label

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        slope = jnp.max((jnp.abs(dual) + error) / self._weights(dual, label))
        return slope + jnp.asarray(self.target, dual.dtype)

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        return jnp.maximum(self.scale, 1.0), 0.0

    def label(self) -> str:
        plain = isinstance(self.scale, float) and self.scale == 1.0 and self.target == 1.0
        return "MSE" if plain else f"MSE(κ={show(self.scale)}, M={show(self.target)})"
