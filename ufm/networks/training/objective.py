r"""The training objective of a network: a loss of the library, times a constant factor.

    L_net(z, k) = c · L(z, k)   averaged over samples, plus λ/2 ‖θ‖² over all parameters θ.

Cross-entropy, label smoothing and focal loss have c = 1. Squared error follows Zhou et al. (2022),
whose code averages over the K outputs and has no ½, with the targets M = 15 of Hui & Belkin (2021):

    L_net(z, k) = (1/K) ‖z − M e_k‖² = (2/K) · L,   L = ½ ‖z − M e_k‖² = MSE(scale=1, target=M).

Dividing L_net by c gives the last layer in the model, with the loss L and the decay λ/c.

    >>> objective = parse_objective("mse:1,15", num_classes=10)
    >>> objective.spec, objective.factor, objective.decay(5e-4)
    ('mse:1.0,15.0', 0.2, 0.0025)
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32

from ufm.losses import MSE, Loss, distinct_losses, loss_spec, parse_loss, split_losses

#: The losses of Zhou et al. (2022), section 5, in the notation of `parse_objective`.
PAPER_LOSSES = ("ce", "ls:0.05", "fl:3", "mse:1,15")
#: M of the paper's squared error.
PAPER_TARGET = 15.0


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training loss: `spec` is its canonical text, `factor` is c."""

    spec: str
    loss: Loss
    factor: float
    num_classes: int

    @property
    def normalisation(self) -> str:
        """The normalisation of the loss, to print next to its numbers."""
        if not isinstance(self.loss, MSE):
            return f"{self.loss.label()}: the mean over samples"
        weight = (
            "" if self.loss.scale == 1 else f", the label's entry weighted by {self.loss.scale:g}"
        )
        return (
            f"MSE: targets {self.loss.target:g}·one-hot, squared error averaged over the "
            f"{self.num_classes} outputs without ½{weight}; it is 2/{self.num_classes} of the "
            f"model's loss, whose decays are {self.num_classes}/2 of the network's"
        )

    def decay(self, weight_decay: float) -> float:
        """λ/c, the decay in the model with the loss L for the network's weight decay λ."""
        return weight_decay / self.factor


def parse_objective(text: str, num_classes: int) -> Objective:
    """Make an objective from "ce", "ls:0.05", "fl:3" or "mse:SCALE,TARGET".

    "mse" alone is refused, because the paper trains with a different loss than the "mse" of
    `parse_loss`. Raises `ValueError` with one line that says what to write instead.
    """
    if _is_plain(text):
        raise ValueError(
            f"loss 'mse': write mse:1,{PAPER_TARGET:g} for the squared error of Zhou et al., or "
            "mse:1,1 for targets of 1"
        )
    loss = parse_loss(text)
    factor = 2.0 / num_classes if isinstance(loss, MSE) else 1.0
    return Objective(loss_spec(loss), loss, factor, num_classes)


def _is_plain(text: str) -> bool:
    return text.strip().lower() == "mse"


def objective_specs(texts: Iterable[str], *, stored: bool = False) -> tuple[str, ...]:
    """Canonical texts. Raises `ValueError` for no, unknown or repeated losses.

    In `stored` texts "mse" alone is the loss of the paper, as version 0.1 wrote it.
    """
    listed = split_losses(texts)
    if stored:
        listed = tuple(PAPER_LOSSES[-1] if _is_plain(text) else text for text in listed)
    return tuple(distinct_losses(listed, lambda text: parse_objective(text, 2).loss))


def mean_value(
    loss: Loss, factor: Any, logits: Float32[Array, "B K"], labels: Int32[Array, " B"]
) -> Float32[Array, ""]:
    """c · (1/B) Σ_i L(z_i, y_i)."""
    values = jax.vmap(loss.value)(logits, labels)
    return jnp.asarray(factor, logits.dtype) * jnp.mean(values)


def mean_gradient(
    loss: Loss, factor: Any, logits: Float32[Array, "B K"], labels: Int32[Array, " B"]
) -> Float32[Array, "B K"]:
    """Its gradient with respect to the logits, by the library's derivative instead of tracing."""
    gradients = jax.vmap(loss.gradient)(logits, labels)
    return (jnp.asarray(factor, logits.dtype) / logits.shape[0]) * gradients
