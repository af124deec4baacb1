r"""Losses of all probabilities: Brier score, negative learning, complement entropies.

With u = 1 − p_k and q the distribution over the rivals, p_j = u q_j. At equal rivals L is φ:

    loss                  L                                      profile φ
    Brier                 ‖p − e_k‖² = u² (1 + ‖q‖²)             u² K/(K−1)
    NegativeLearning      −Σ_{j≠k} log(1 − p_j)                  −(K−1) log(1 − u/(K−1))
    ComplementCE          ℓ − H(q)/(K−1)                         ℓ − log(K−1)/(K−1)
    ComplementObjective   ℓ − u H(q)/(K−1)                       ℓ − u log(K−1)/(K−1)

Each is symmetric and convex in q at fixed p_k, and at q = 1/(K−1) decreases in p_k, so that it is
contrastive. Automatic derivatives are accurate relative to numbers of order 1.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ufm._support.namespace import namespace, sigmoid, softplus
from ufm._support.pytree import pytree
from ufm.losses._base import AutodiffLoss, Label, Logits, Scalar, label_mask
from ufm.losses._softmax import log_odds


class _SimplexLoss(AutodiffLoss):
    """A contrastive loss of probabilities, without a region of convexity in general."""

    shift_invariant: ClassVar[bool] = True
    contrastive: ClassVar[bool] = True

    def is_convex(self) -> bool:
        return False

    def convex_above(self) -> None:
        return None

    def smoothness(self) -> tuple[float, float]:
        return 8.0, 32.0


@pytree(eq=True)
class Brier(_SimplexLoss):
    """Brier score (Brier, 1950): L = ‖p − e_k‖²."""

    name: ClassVar[str] = "Brier"

    def value(self, z: Logits, label: Label) -> Scalar:
        t, q = log_odds(z, label)
        return sigmoid(t) ** 2 * (1.0 + jnp.sum(q**2))

    def profile(self, s: Any, num_classes: int) -> Any:
        u = sigmoid(math.log(num_classes - 1) - s)
        return u**2 * (num_classes / (num_classes - 1))

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        t = math.log(num_classes - 1) - s
        return -2.0 * sigmoid(-t) * sigmoid(t) ** 2 * (num_classes / (num_classes - 1))

    def profile_convex_above(self, num_classes: int) -> float:
        return 1.0 / 3.0


@pytree(eq=True)
class NegativeLearning(_SimplexLoss):
    """Negative learning on every other class (Kim et al., 2019): L = −Σ_{j≠k} log(1 − p_j)."""

    name: ClassVar[str] = "NL"

    def value(self, z: Logits, label: Label) -> Scalar:
        # log(1 − p_j) is accurate for p_j ≤ ½; for the larger one it is log σ(t).
        classes = jnp.arange(z.shape[0], dtype=jnp.int32)
        on_label, largest = label_mask(z, label), jnp.argmax(z).astype(jnp.int32)
        p = jax.nn.softmax(z)
        small = jnp.where(on_label | (classes == largest), 0.0, p)
        t, _ = log_odds(z, largest)
        rival = jnp.asarray(label, jnp.int32) != largest
        return jnp.where(rival, softplus(-t), 0.0) - jnp.sum(jnp.log1p(-small))

    def profile(self, s: Any, num_classes: int) -> Any:
        t, others = math.log(num_classes - 1) - s, num_classes - 1
        if others == 1:
            return softplus(t)
        return -others * namespace(t).log1p(-sigmoid(t) / others)

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        t = math.log(num_classes - 1) - s
        u, p, others = sigmoid(t), sigmoid(-t), num_classes - 1
        # K − 1 − u as K − 2 + p, which does not cancel for two classes.
        return -others * p * u / ((others - 1) + p)

    def profile_convex_above(self, num_classes: int) -> float:
        # φ'' has the sign of (K−1)(1 − 2u) + u², u = 1 − p_k.
        others = num_classes - 1.0
        root = math.sqrt(others**2 - others)
        return root / (others + root)


@pytree(eq=True)
class ComplementCE(_SimplexLoss):
    """Complement cross-entropy (Kim et al., 2021): L = −log p_k − H(q)/(K−1), q over the rivals."""

    name: ClassVar[str] = "CCE"

    def value(self, z: Logits, label: Label) -> Scalar:
        t, q = log_odds(z, label)
        return softplus(t) - _entropy(z, label, q) / (z.shape[0] - 1)

    def infimum(self) -> float:
        return -math.exp(-1.0)  # log(x)/x ≤ 1/e

    def profile(self, s: Any, num_classes: int) -> Any:
        others = num_classes - 1
        return softplus(math.log(others) - s) - math.log(others) / others

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        return -sigmoid(math.log(num_classes - 1) - s)

    def profile_convex_above(self, num_classes: int) -> float:
        return 0.0


@pytree(eq=True)
class ComplementObjective(_SimplexLoss):
    """Complement objective training (Chen et al., 2019), both steps at once.

    L = −log p_k − (1 − p_k) H(q)/(K−1), q the distribution over the rivals.
    """

    name: ClassVar[str] = "COT"

    def value(self, z: Logits, label: Label) -> Scalar:
        t, q = log_odds(z, label)
        return softplus(t) - sigmoid(t) * _entropy(z, label, q) / (z.shape[0] - 1)

    def profile(self, s: Any, num_classes: int) -> Any:
        t, others = math.log(num_classes - 1) - s, num_classes - 1
        return softplus(t) - sigmoid(t) * (math.log(others) / others)

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        t, others = math.log(num_classes - 1) - s, num_classes - 1
        return -sigmoid(t) * (1.0 - sigmoid(-t) * (math.log(others) / others))

    def profile_convex_above(self, num_classes: int) -> float:
        return 0.0  # Poly-1 with ε = −log(K−1)/(K−1), which is at least −1/e


def _entropy(z: Logits, label: Label, q: Logits) -> Scalar:
    """H(q) of the distribution over the rivals."""
    on_label = label_mask(z, label)
    masked = jnp.where(on_label, -jnp.inf, z)
    top = jax.lax.stop_gradient(jnp.max(masked))
    weights = jnp.where(on_label, 0.0, jnp.exp(jnp.where(on_label, 0.0, z - top)))
    log_q = jnp.where(on_label, 0.0, z - top) - jnp.log(jnp.sum(weights))
    return -jnp.sum(q * log_q)
