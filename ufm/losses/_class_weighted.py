"""A loss with class weights: each class's loss is multiplied by a number."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ufm._support.pytree import hyperparameter, pytree, require
from ufm.losses._base import Label, Logits, Loss, Refutation, Scalar

if TYPE_CHECKING:
    Weights = Array
else:
    # What the constructor takes; it stores an array of JAX.
    Weights = Float[Array, "*batch K"] | Shaped[np.ndarray, "*batch K"]


@pytree()
class ClassWeighted(Loss):
    """L(z, k) = a_k × the loss at (z, k), with `weights` a (K,).

    The average of samples weighted by w_k, normalised as torch.nn.CrossEntropyLoss(weight=w) does,
    is a plain average of this loss:

        Σ_i w_{y_i} L_i / Σ_i w_{y_i} = (1/N) Σ_i a_{y_i} L_i,    a_k = N w_k / Σ_l n_l w_l.

    Raises `ValueError` unless all weights are positive, and for another number of classes.
    """

    loss: Loss
    weights: Weights
    name: ClassVar[str] = "class-weighted"
    equivariant: ClassVar[bool] = False
    ranks: ClassVar[Mapping[str, int]] = {"weights": 1}

    def __post_init__(self) -> None:
        weights = hyperparameter("weights", self.weights)
        require("weights", weights, lambda a: a > 0, "positive and finite")
        object.__setattr__(self, "weights", weights)

    # What kind of function it is follows from the loss.

    @property
    def shift_invariant(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.shift_invariant

    @property
    def has_conjugate(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.has_conjugate

    @property
    def declared(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.declared

    def is_convex(self) -> bool | None:
        return self.loss.is_convex()

    def convex_above(self) -> Any:
        return self.loss.convex_above()

    def refutation(self, z: Logits, label: Label, curved: bool = True) -> Refutation:
        return self.loss.refutation(z, label, curved)

    def probe(self, num_classes: int) -> None:
        if self.weights.shape[-1:] != (num_classes,):
            raise ValueError(
                f"weights must have one number for each of the {num_classes} classes, got shape "
                f"{self.weights.shape}"
            )
        self.loss.probe(num_classes)

    def label(self) -> str:
        return f"{self.loss.label()} with class weights"

    # Values and derivatives are a_k times those of the loss.

    def _a(self, z: Logits, label: Label) -> Scalar:
        return jnp.asarray(self.weights, z.dtype)[label]

    def value(self, z: Logits, label: Label) -> Scalar:
        return self._a(z, label) * self.loss.value(z, label)

    def gradient(self, z: Logits, label: Label) -> Logits:
        return self._a(z, label) * self.loss.gradient(z, label)

    def curvature(self, z: Logits, label: Label) -> Any:
        return self._a(z, label), self.loss.curvature(z, label)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        a, inner = curvature
        return a * self.loss.curvature_product(inner, x)

    def rounding(self, z: Logits, label: Label) -> Scalar:
        return self._a(z, label) * self.loss.rounding(z, label)

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        return self._a(z, label) * self.loss.gradient_rounding(z, label, size)

    # (a L)*(γ) = a L*(γ/a), whose slope is that of L* at γ/a.

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        a = self._a(dual, label)
        return a * self.loss.conjugate(dual / a, label)

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        a = self._a(dual, label)
        return a * self.loss.conjugate_rounding(dual / a, label)

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        a = self._a(dual, label)
        return self.loss.conjugate_slope(dual / a, label, error / a)

    # Bounds that hold for every label.

    def infimum(self) -> float | None:
        least = self.loss.infimum()
        return None if least is None or least < 0 else 0.0

    def margin_slope(self) -> Any:
        slope = self.loss.margin_slope()
        return None if slope is None else slope * jnp.min(self.weights)

    def smoothness(self) -> Any:
        largest = jnp.max(self.weights)
        return tuple(bound * largest for bound in self.loss.smoothness())
