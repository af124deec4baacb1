r"""Losses against targets: groups of samples whose labels are vectors y_i instead of classes.

The label of a sample is the number i of its group, and y_i is row i of `targets` (m, K).

    SoftmaxTargets    |y_i| log Σ_j e^{z_j} − ⟨y_i, z⟩,  |y| = Σ_j y_j     CE, LS: soft, multi-label
    LogisticTargets   Σ_j log(1 + e^{z_j}) − y_ij z_j                      BCE: tags
    SquaredTargets    ½ ‖z − y_i‖²                                         MSE: regression
    GroupedLoss       L(z, class of group i)                               any loss, one-hot targets

For a distribution y the first is the cross-entropy −Σ_j y_j log p_j; for the indicator of m labels
it is "pick all labels", the sum of their cross-entropies.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

from ufm._support.namespace import sigmoid, softplus
from ufm._support.pytree import pytree, static
from ufm.losses._affine import AffineLoss, Image
from ufm.losses._base import Hyper, Label, Logits, Loss, Scalar, show
from ufm.losses._margins import BinaryCrossEntropy
from ufm.losses._softmax import (
    CrossEntropy,
    LabelSmoothing,
    entropy_rounding,
    entropy_slope,
    largest_entry,
    negative_entropy,
    softmax_product,
)
from ufm.losses._squared import MSE

Table = Float[np.ndarray, "m K"]


def _require_row_each(rows: int, num_groups: int) -> None:
    if rows != num_groups:  # an index beyond the table would read its last row
        raise ValueError(
            f"the loss has {rows} rows of targets, but class_counts has {num_groups} entries: give "
            "one row for each"
        )


class TargetLoss(Loss):
    """A loss against the rows of a table."""

    targets: Float[Array, "*batch m K"]
    equivariant: ClassVar[bool] = False
    has_conjugate: ClassVar[bool] = True
    ranks: ClassVar[Mapping[str, int]] = {"targets": 2}

    #: The loss of class labels.
    plain: ClassVar[Loss]

    @property
    def num_outputs(self) -> int:
        return self.targets.shape[-1]

    def without_targets(self) -> tuple[Loss, Table]:
        return self.plain, np.asarray(self.targets)

    def probe(self, num_groups: int, num_outputs: int) -> None:
        _require_row_each(self.targets.shape[-2], num_groups)

    def is_convex(self) -> bool:
        return True

    def label(self) -> str:
        return f"{self.name} on targets"

    def target(self, z: Logits, label: Label) -> Logits:
        """y_i."""
        return jnp.asarray(self.targets, z.dtype)[label]


@pytree()
class SoftmaxTargets(TargetLoss):
    """L = −Σ_j ŷ_j log p_j with ŷ = (1−α) y + α|y|/K, |y| = Σ_j y_j."""

    targets: Float[Array, "*batch m K"]
    alpha: Hyper = 0.0
    name: ClassVar[str] = "CE"
    plain: ClassVar[Loss] = CrossEntropy()
    shift_invariant: ClassVar[bool] = True

    def without_targets(self) -> tuple[Loss, Table]:
        loss = LabelSmoothing(self.alpha) if self._is_smoothed else self.plain
        return loss, np.asarray(self.targets)

    @property
    def _is_smoothed(self) -> bool:
        return not (isinstance(self.alpha, float) and self.alpha == 0.0)

    def target(self, z: Logits, label: Label) -> Logits:
        y, alpha = super().target(z, label), jnp.asarray(self.alpha, z.dtype)
        return (1.0 - alpha) * y + alpha * jnp.mean(y)

    def value(self, z: Logits, label: Label) -> Scalar:
        # −log p_j, relatively accurate for the largest logit too.
        largest = largest_entry(z)
        top = jax.lax.stop_gradient(jnp.max(z))
        others = jnp.sum(jnp.where(largest > 0, 0.0, jnp.exp(z - top)))
        return jnp.sum(self.target(z, label) * ((top - z) + jnp.log1p(others)))

    def gradient(self, z: Logits, label: Label) -> Logits:
        y = self.target(z, label)
        return jnp.sum(y) * jax.nn.softmax(z) - y

    def curvature(self, z: Logits, label: Label) -> Any:
        p = jax.nn.softmax(z)
        return p, largest_entry(p), jnp.sum(self.target(z, label))

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        p, largest, mass = curvature
        return mass * softmax_product(p, largest, x)

    def rounding(self, z: Logits, label: Label) -> Scalar:
        mass = jnp.sum(self.target(z, label))
        return 2.0 * self.value(z, label) + mass * (2.0 * jnp.max(jnp.abs(z)) + 1.0)

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        # Probabilities minus targets: a small difference of larger numbers.
        y, p = self.target(z, label), jax.nn.softmax(z)
        terms = jnp.sum(y) * (2.0 + jnp.linalg.norm(size)) * jnp.linalg.norm(p)
        return terms + 2.0 * jnp.linalg.norm(y)

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = Σ_j q_j log(q_j/|y|), q = γ + ŷ ≥ 0 with sum |y|."""
        y = self.target(dual, label)
        mass = jnp.sum(y)
        return mass * negative_entropy(dual / mass, y / mass)

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        y = self.target(dual, label)
        mass = jnp.sum(y)
        return 2.0 * mass * entropy_rounding(dual / mass, y / mass)

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        y = self.target(dual, label)
        mass = jnp.sum(y)
        return entropy_slope(dual / mass, y / mass, error / mass)

    def smoothness(self) -> Any:
        mass = jnp.max(jnp.sum(jnp.asarray(self.targets), axis=-1))
        return mass, mass

    def label(self) -> str:
        return f"LS(α={show(self.alpha)}) on targets" if self._is_smoothed else super().label()


@pytree()
class LogisticTargets(TargetLoss):
    """L = Σ_j y_j log(1 + e^{−z_j}) + (1 − y_j) log(1 + e^{z_j}), y_j in [0, 1]."""

    targets: Float[Array, "*batch m K"]
    name: ClassVar[str] = "BCE"
    plain: ClassVar[Loss] = BinaryCrossEntropy()

    def value(self, z: Logits, label: Label) -> Scalar:
        y = self.target(z, label)
        return jnp.sum(y * softplus(-z) + (1.0 - y) * softplus(z))

    def gradient(self, z: Logits, label: Label) -> Logits:
        # σ(z) − y, with the small one of p and 1 − p computed directly.
        y = self.target(z, label)
        return (1.0 - y) * sigmoid(z) - y * sigmoid(-z)

    def curvature(self, z: Logits, label: Label) -> Any:
        return (sigmoid(z) * sigmoid(-z),)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        return curvature[0] * x

    def rounding(self, z: Logits, label: Label) -> Scalar:
        y = self.target(z, label)
        slope = (1.0 - y) * sigmoid(z) + y * sigmoid(-z)
        return 2.0 * self.value(z, label) + jnp.sum(slope * jnp.abs(z))

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        y = self.target(z, label)
        terms = (1.0 - y) * sigmoid(z) + y * sigmoid(-z)
        return (2.0 + jnp.linalg.norm(size)) * jnp.linalg.norm(terms)

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = Σ_j q_j log q_j + (1 − q_j) log(1 − q_j), q = γ + y in [0, 1]."""
        y = self.target(dual, label)
        # Both q and 1 − q as sums, so that neither is a difference of nearly equal numbers twice.
        q, rest = y + dual, (1.0 - y) - dual
        room = 16 * float(jnp.finfo(dual.dtype).eps)
        outside = jnp.any((q < -room) | (rest < -room))
        q, rest = jnp.maximum(q, 0.0), jnp.maximum(rest, 0.0)
        return jnp.where(outside, jnp.inf, jnp.sum(xlogy(q, q) + xlogy(rest, rest)))

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        y, smallest = self.target(dual, label), float(jnp.finfo(dual.dtype).tiny)
        terms = [(y, y + dual), (1.0 - y, (1.0 - y) - dual)]
        logs = [1.0 + jnp.abs(jnp.log(jnp.clip(q, smallest, 2.0))) for _, q in terms]
        return jnp.sum(
            sum((1.0 + x + jnp.abs(dual)) * log for (x, _), log in zip(terms, logs, strict=True))
        )

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        q = self.target(dual, label) + dual
        edge = jnp.minimum(jnp.min(q - error), jnp.min((1.0 - q) - error))
        safe = jnp.where(edge > 0, edge, 0.5)
        # The derivative is log(q/(1 − q)).
        return jnp.where(edge > 0, jnp.log1p(-safe) - jnp.log(safe), jnp.inf)


@pytree()
class SquaredTargets(TargetLoss):
    """L = ½ ‖z − y‖²."""

    targets: Float[Array, "*batch m K"]
    name: ClassVar[str] = "MSE"
    plain: ClassVar[Loss] = MSE()
    quadratic: ClassVar[bool] = True

    def value(self, z: Logits, label: Label) -> Scalar:
        return 0.5 * jnp.sum((z - self.target(z, label)) ** 2)

    def gradient(self, z: Logits, label: Label) -> Logits:
        return z - self.target(z, label)

    def curvature(self, z: Logits, label: Label) -> Any:
        return (jnp.ones_like(z),)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        return curvature[0] * x

    def rounding(self, z: Logits, label: Label) -> Scalar:
        y = self.target(z, label)
        return self.value(z, label) + jnp.sum(jnp.abs(z - y) * (jnp.abs(z) + jnp.abs(y)))

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        return jnp.linalg.norm(size) + jnp.linalg.norm(self.target(z, label))

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = ½ ‖γ‖² + ⟨γ, y⟩."""
        return jnp.sum(dual * (0.5 * dual + self.target(dual, label)))

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        return jnp.sum(jnp.abs(dual) * (jnp.abs(dual) + jnp.abs(self.target(dual, label))))

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        return jnp.max(jnp.abs(dual) + error + jnp.abs(self.target(dual, label)))

    def smoothness(self) -> tuple[float, float]:
        return 1.0, 0.0


@pytree()
class GroupedLoss(AffineLoss):
    """A loss with several groups of samples in a class: L(z, i) = loss(z, classes[i])."""

    loss: Loss
    classes: tuple[int, ...] = static()
    outputs: int = static()
    name: ClassVar[str] = "grouped"
    equivariant: ClassVar[bool] = False

    def _image(self, z: Logits, label: Label) -> Image:
        return Image(self.loss, jnp.asarray(self.classes, jnp.int32)[label])

    @property
    def shift_invariant(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.shift_invariant

    @property
    def num_outputs(self) -> int:
        return self.outputs

    def without_targets(self) -> tuple[Loss, Table]:
        return self.loss, np.eye(self.outputs)[list(self.classes)]

    def convex_above(self) -> Any:
        return self.loss.convex_above()

    def infimum(self) -> float | None:
        return self.loss.infimum()

    def smoothness(self) -> Any:
        return self.loss.smoothness()

    def margin_slope(self) -> Any:
        """Every class has a group, whose samples bound its margin; else nothing is known."""
        complete = len(set(self.classes)) == self.outputs
        return self.loss.margin_slope() if complete else None

    def probe(self, num_groups: int, num_outputs: int) -> None:
        _require_row_each(len(self.classes), num_groups)
        self.loss.probe(num_outputs, num_outputs)

    def label(self) -> str:
        return self.loss.label()
