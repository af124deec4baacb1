"""Cross-entropy of scaled and shifted logits: logit adjustment, LDAM, CDT, vector scaling."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._affine import AffineLoss, Image
from ufm.losses._base import Label, Logits, Loss, label_mask
from ufm.losses._softmax import CrossEntropy

if TYPE_CHECKING:
    Numbers = float | Array
else:
    # What the constructor takes; it stores a float or an array of JAX.
    Numbers = float | int | np.number | Float[Array, " K"] | Shaped[np.ndarray, " K"]
Counts = Sequence[int]


@pytree()
class VectorScaling(AffineLoss):
    """L(z, k) = CE(Δ ⊙ z + ι − m_k e_k, k), convex (Kini et al., 2021).

    `scale` is Δ > 0, `shift` is ι and `margin` is m, each a number or one for each class (K,).
    `loss` may replace cross-entropy. Special cases: `logit_adjustment`, `ldam`, `cdt`. Raises
    `ValueError` for a scale that is not positive, and for other numbers of classes.
    """

    scale: Numbers = 1.0
    shift: Numbers = 0.0
    margin: Numbers = 0.0
    loss: Loss = CrossEntropy()
    name: ClassVar[str] = "VS"
    equivariant: ClassVar[bool] = False
    ranks: ClassVar[Mapping[str, int]] = {"scale": 1, "shift": 1, "margin": 1}

    def __post_init__(self) -> None:
        set_hyperparameter(self, "scale", lambda x: x > 0, "positive and finite")
        for name in ("shift", "margin"):
            set_hyperparameter(self, name, np.isfinite, "finite")

    @classmethod
    def logit_adjustment(cls, class_counts: Counts, tau: float = 1.0) -> "VectorScaling":
        """ι_k = τ log(n_k/N) (Menon et al., 2021)."""
        counts = np.asarray(class_counts, float)
        return cls(shift=tau * np.log(counts / counts.sum()))

    @classmethod
    def ldam(cls, class_counts: Counts, largest: float = 0.5) -> "VectorScaling":
        """m_k = m_max (n_min/n_k)^{1/4} (Cao et al., 2019)."""
        counts = np.asarray(class_counts, float)
        return cls(margin=largest * (counts.min() / counts) ** 0.25)

    @classmethod
    def cdt(cls, class_counts: Counts, gamma: float = 0.2) -> "VectorScaling":
        """Δ_k = (n_k/n_max)^γ (Ye et al., 2020)."""
        counts = np.asarray(class_counts, float)
        return cls(scale=(counts / counts.max()) ** gamma)

    def _image(self, z: Logits, label: Label) -> Image:
        scale, shift, margin = (
            jnp.broadcast_to(jnp.asarray(x, z.dtype), z.shape)
            for x in (self.scale, self.shift, self.margin)
        )
        return Image(
            self.loss,
            label,
            scale=scale,
            shift=shift - jnp.where(label_mask(z, label), margin, 0.0),
        )

    @property
    def shift_invariant(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return np.ndim(self.scale) == 0 and self.loss.shift_invariant

    def without_targets(self) -> tuple[Loss, Any]:
        loss, targets = self.loss.without_targets()
        return VectorScaling(self.scale, self.shift, self.margin, loss), targets

    def probe(self, num_groups: int, num_outputs: int) -> None:
        for name in ("scale", "shift", "margin"):
            shape = np.shape(getattr(self, name))
            if shape not in ((), (num_outputs,)):
                raise ValueError(
                    f"{name} must be a number, or one for each of the {num_outputs} classes, got "
                    f"shape {shape}"
                )
        self.loss.probe(num_groups, num_outputs)

    def smoothness(self) -> Any:
        second, third = self.loss.smoothness()
        largest = jnp.max(jnp.asarray(self.scale))
        return second * largest**2, third * largest**3

    def label(self) -> str:
        return f"VS({self.loss.label()})"
