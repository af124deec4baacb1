"""Cross-entropy of rescaled logits: at a temperature, and of their direction alone."""

from typing import Any, ClassVar

import jax.numpy as jnp

from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._affine import AffineLoss, Image
from ufm.losses._base import AutodiffLoss, Hyper, Label, Logits, Loss, Scalar, show
from ufm.losses._softmax import CrossEntropy

_CE = CrossEntropy()


def _positive_temperature(loss: Any) -> None:
    set_hyperparameter(loss, "temperature", lambda t: (t > 0) & (t <= 10), "in (0, 10]")


@pytree(eq=True)
class TemperatureCE(AffineLoss):
    """Cross-entropy at temperature τ (Hinton et al., 2015): L = −log softmax(z/τ)_k.

    Raises `ValueError` unless `temperature`, τ, is in (0, 10].
    """

    temperature: Hyper = 1.0
    name: ClassVar[str] = "CE/τ"
    shift_invariant: ClassVar[bool] = True
    contrastive: ClassVar[bool] = True
    loss: ClassVar[Loss] = _CE  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        _positive_temperature(self)

    def _image(self, z: Logits, label: Label) -> Image:
        return Image(_CE, label, scale=1.0 / jnp.asarray(self.temperature, z.dtype))

    def profile(self, s: Any, num_classes: int) -> Any:
        return _CE.profile(s / self.temperature, num_classes)

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        return _CE.profile_slope(s / self.temperature, num_classes) / self.temperature

    def profile_convex_above(self, num_classes: int) -> float:
        return 0.0

    def margin_slope(self) -> Scalar | float:
        return 1.0 / self.temperature

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        return self.temperature**-2, self.temperature**-3

    def label(self) -> str:
        return f"CE(τ={show(self.temperature)})"


@pytree(eq=True)
class LogitNorm(AutodiffLoss):
    """Cross-entropy of normalised logits (Wei et al., 2022): L = −log softmax(z/(τ‖z‖))_k.

    It is invariant to the scale of z, so that with weight decay f has no minimiser. At z = 0,
    where it has no limit, it is log K. Raises `ValueError` unless `temperature`, τ, is in (0, 10].
    """

    temperature: Hyper = 1.0
    name: ClassVar[str] = "LogitNorm"

    def __post_init__(self) -> None:
        _positive_temperature(self)

    def is_convex(self) -> bool:
        return False

    def value(self, z: Logits, label: Label) -> Scalar:
        largest = jnp.max(jnp.abs(z))
        there = largest > 0
        # In units of the largest entry: squares neither overflow nor underflow.
        unit = z / jnp.where(there, largest, 1.0)
        size = jnp.sqrt(jnp.where(there, jnp.sum(unit**2), 1.0))
        return _CE.value(unit / (jnp.asarray(self.temperature, z.dtype) * size), label)

    def label(self) -> str:
        return f"LogitNorm(τ={show(self.temperature)})"
