r"""Convex losses of margins: hinges over several classes, and one-versus-all cross-entropy.

    loss             L                                        φ(s)
    CrammerSinger    (1 + max_{j≠k} z_j − z_k)₊^r             (1 − s)₊^r
    WestonWatkins    Σ_{j≠k} (1 + z_j − z_k)₊^r               (K−1) (1 − s)₊^r
    BinaryCrossEntropy   log(1 + e^{−z_k}) + Σ_{j≠k} log(1 + e^{z_j})     not shift-invariant

r is 1 or 2. Convex and symmetric in the rivals, the hinges are contrastive, though not strictly.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.scipy.special import xlogy

from ufm._support.namespace import namespace, sigmoid, softplus
from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._base import AutodiffLoss, Hyper, Label, Logits, Loss, Scalar, label_mask, show


class _Hinge(AutodiffLoss):
    shift_invariant: ClassVar[bool] = True
    contrastive: ClassVar[bool] = True
    power: Hyper

    def __post_init__(self) -> None:
        wanted = "1 (plain) or 2 (squared)"
        set_hyperparameter(self, "power", lambda r: (r == 1) | (r == 2), wanted)

    def is_convex(self) -> bool:
        return True

    def weight(self, num_classes: int) -> float:
        """The factor of φ in the table of the module."""
        return 1.0

    def _powered(self, x: Any) -> Any:
        above = namespace(x).maximum(x, 0.0)
        return namespace(x).where(self.power > 1.5, above**2, above)

    def profile(self, s: Any, num_classes: int) -> Any:
        return self.weight(num_classes) * self._powered(1.0 - s)

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        xp = namespace(s)
        slope = xp.where(self.power > 1.5, 2.0 * xp.maximum(1.0 - s, 0.0), 1.0 * (s < 1.0))
        return -self.weight(num_classes) * slope

    def profile_convex_above(self, num_classes: int) -> float:
        return 0.0

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        return 16.0, 16.0


@pytree(eq=True)
class CrammerSinger(_Hinge):
    """Hinge against the strongest rival (Crammer & Singer, 2001), r = `power`, 1 or 2.

    L = max(0, 1 + max_{j≠k} z_j − z_k)^r. Raises `ValueError` for other powers.
    """

    power: Hyper = 2.0
    name: ClassVar[str] = "CrammerSinger"

    def value(self, z: Logits, label: Label) -> Scalar:
        on_label = label_mask(z, label)
        rival = jnp.max(jnp.where(on_label, -jnp.inf, z))
        return self._powered(1.0 + (rival - jnp.sum(jnp.where(on_label, z, 0.0))))

    def label(self) -> str:
        return f"CrammerSinger(r={show(self.power)})"


@pytree(eq=True)
class WestonWatkins(_Hinge):
    """Hinge against every rival (Weston & Watkins, 1999), r = `power`, 1 or 2.

    L = Σ_{j≠k} max(0, 1 + z_j − z_k)^r. Raises `ValueError` for other powers.
    """

    power: Hyper = 2.0
    name: ClassVar[str] = "WestonWatkins"

    def weight(self, num_classes: int) -> float:
        return num_classes - 1.0

    def value(self, z: Logits, label: Label) -> Scalar:
        on_label = label_mask(z, label)
        each = self._powered(1.0 + (z - jnp.sum(jnp.where(on_label, z, 0.0))))
        return jnp.sum(jnp.where(on_label, 0.0, each))

    def label(self) -> str:
        return f"WestonWatkins(r={show(self.power)})"


@pytree(eq=True)
class BinaryCrossEntropy(Loss):
    """One-versus-all cross-entropy: L = log(1 + e^{−z_k}) + Σ_{j≠k} log(1 + e^{z_j})."""

    name: ClassVar[str] = "BCE"
    has_conjugate: ClassVar[bool] = True

    def is_convex(self) -> bool:
        return True

    def value(self, z: Logits, label: Label) -> Scalar:
        return jnp.sum(softplus(jnp.where(label_mask(z, label), -z, z)))

    def gradient(self, z: Logits, label: Label) -> Logits:
        return jnp.where(label_mask(z, label), -sigmoid(-z), sigmoid(z))

    def curvature(self, z: Logits, label: Label) -> Any:
        return (sigmoid(z) * sigmoid(-z),)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        return curvature[0] * x

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = Σ_j y log y + (1 − y) log(1 − y), y = γ + e_k in [0, 1]."""
        # |γ_j| is y off the label and 1 − y on it, both without a subtraction.
        y = jnp.where(label_mask(dual, label), -dual, dual)
        room = 16 * float(jnp.finfo(dual.dtype).eps)
        outside = jnp.any((y < -room) | (y > 1.0 + room))
        y = jnp.clip(y, 0.0, 1.0)
        return jnp.where(outside, jnp.inf, jnp.sum(xlogy(y, y) + xlogy(1.0 - y, 1.0 - y)))

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        smallest = float(jnp.finfo(dual.dtype).tiny)
        y = jnp.where(label_mask(dual, label), -dual, dual)
        logs = [jnp.abs(jnp.log(jnp.clip(x, smallest, 1.0))) for x in (y, 1.0 - y)]
        return jnp.sum(jnp.abs(y) * (1.0 + logs[0]) + (1.0 + jnp.abs(1.0 - y)) * (1.0 + logs[1]))

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        y = jnp.where(label_mask(dual, label), -dual, dual)
        low, high = jnp.min(y - error), jnp.max(y + error)
        edge = jnp.minimum(low, 1.0 - high)
        safe = jnp.where(edge > 0, edge, 0.5)
        # The derivative is log(y/(1 − y)).
        return jnp.where(edge > 0, jnp.log1p(-safe) - jnp.log(safe), jnp.inf)

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        return (1.0 + jnp.linalg.norm(size)) * jnp.linalg.norm(self.gradient(z, label))

    def rounding(self, z: Logits, label: Label) -> Scalar:
        slope = jnp.sum(jnp.abs(self.gradient(z, label) * z))
        return self.value(z, label) + slope
