"""A loss with class weights: each class's loss is multiplied by a number."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._affine import AffineLoss, Image
from ufm.losses._base import Label, Logits, Loss

if TYPE_CHECKING:
    Weights = Array
else:
    # What the constructor takes; it stores an array of JAX.
    Weights = Float[Array, "*batch m"] | Shaped[np.ndarray, "*batch m"]


@pytree()
class ClassWeighted(AffineLoss):
    """L(z, k) = a_k × the loss at (z, k), with `weights` a, a number for each class.

    The average of samples weighted by w_k, normalised as torch.nn.CrossEntropyLoss(weight=w) does,
    is a plain average of this loss:

        Σ_i w_{y_i} L_i / Σ_i w_{y_i} = (1/N) Σ_i a_{y_i} L_i,    a_k = N w_k / Σ_l n_l w_l.

    With targets, a is a number for each group of samples. Raises `ValueError` unless all weights
    are positive, and for another number of classes.
    """

    loss: Loss
    weights: Weights
    name: ClassVar[str] = "class-weighted"
    equivariant: ClassVar[bool] = False
    ranks: ClassVar[Mapping[str, int]] = {"weights": 1}

    def __post_init__(self) -> None:
        set_hyperparameter(self, "weights", lambda a: a > 0, "positive and finite")

    def _image(self, z: Logits, label: Label) -> Image:
        return Image(self.loss, label, jnp.asarray(self.weights, z.dtype)[label])

    @property
    def shift_invariant(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.shift_invariant

    def without_targets(self) -> tuple[Loss, Any]:
        loss, targets = self.loss.without_targets()
        return ClassWeighted(loss, self.weights), targets

    def convex_above(self) -> Any:
        return self.loss.convex_above()

    def probe(self, num_groups: int, num_outputs: int) -> None:
        if self.weights.shape[-1:] != (num_groups,):
            raise ValueError(
                f"weights must have one number for each of the {num_groups} classes, got shape "
                f"{self.weights.shape}"
            )
        self.loss.probe(num_groups, num_outputs)

    def label(self) -> str:
        return f"{self.loss.label()} with class weights"

    # Bounds that hold for every label.

    def margin_slope(self) -> Any:
        slope = self.loss.margin_slope()
        return None if slope is None else slope * jnp.min(self.weights)

    def smoothness(self) -> Any:
        largest = jnp.max(self.weights)
        return tuple(bound * largest for bound in self.loss.smoothness())
