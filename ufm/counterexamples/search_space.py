r"""The search space of a hunt: ranges of losses, decays, K and n, and random draws from them.

Classes are balanced. The dimension is the smallest for which convex losses have no spurious minima:
d = K − 1, or K if the loss is not shift-invariant and the bias not free. Decays are relative to the
collapse threshold (`ufm.collapse_threshold`), where the landscape of the focal loss changes.

    >>> space = SearchSpace((Focal(1.0), Focal(5.0)), num_classes=(100,))
    >>> space.draw(key).num_classes
    100
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ufm.collapse.symmetric_solution import collapse_threshold
from ufm.losses import MSE, Focal, Loss
from ufm.model.checks import check_size
from ufm.model.problem import Problem

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Ranges, ends included.

    `losses`: two losses of one family; the hyperparameter is drawn uniformly between theirs. Give
    one loss twice for a fixed loss. `num_classes`: the values of K to choose from (each needs a
    compilation). `per_class`: n, uniform. `decay`: √(λ_W λ_H) over the collapse threshold, uniform.
    `ratio`: λ_W/λ_H, log-uniform. `lam_b` as for `Problem`. `hidden_layers`: numbers of hidden
    layers to choose from; with any, `decay` is Λ over its tie with the origin, and each layer has
    the decay Λ. Raises `ValueError` for an invalid range.
    """

    losses: tuple[Loss, Loss] = (Focal(0.5), Focal(5.0))
    num_classes: tuple[int, ...] = (10, 24, 50, 100)
    per_class: tuple[int, int] = (1, 10)
    decay: Range = (0.9, 1.05)
    ratio: Range = (0.1, 10.0)
    lam_b: float | None = None
    hidden_layers: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        first, last = self.losses
        if type(first) is not type(last):
            raise ValueError(
                f"losses must be two of one family, the ends of a range, got {first.label()} and "
                f"{last.label()}"
            )
        if not (first.contrastive or isinstance(first, MSE)):
            raise ValueError(f"the search is for CE, LS, FL and MSE, got {first.label()}")
        if not self.num_classes or min(self.num_classes) < 2:
            raise ValueError(f"num_classes must list numbers of at least 2, got {self.num_classes}")
        most = max(self.num_classes)
        check_size(most, most, most)
        if not self.hidden_layers or min(self.hidden_layers) < 0:
            raise ValueError(
                f"hidden_layers must list numbers of at least 0, got {self.hidden_layers}"
            )
        for name in ("per_class", "decay", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(
                    f"{name} must be two positive numbers, ascending, got {low} {high}"
                )

    def draw(self, key: Key[Array, ""]) -> Problem:
        """Draw one problem, which depends only on the key."""
        keys = jax.random.split(key, 5)
        first, last = self.losses
        part = jax.random.uniform(keys[0])
        loss = jax.tree.map(lambda a, b: float(a + part * (b - a)), first, last)
        chosen = int(jax.random.randint(keys[1], (), 0, len(self.num_classes)))
        classes = self.num_classes[chosen]
        low, high = self.per_class
        n = int(jax.random.randint(keys[2], (), low, high + 1))
        decay = _uniform(keys[3], self.decay)
        balance = math.exp(
            0.5 * _uniform(keys[4], (math.log(self.ratio[0]), math.log(self.ratio[1])))
        )
        # A key of its own: other draws stay the same.
        own = jax.random.randint(jax.random.fold_in(key, 5), (), 0, len(self.hidden_layers))
        layers = self.hidden_layers[int(own)]
        problem = Problem.balanced(
            loss=loss,
            num_classes=classes,
            per_class=n,
            dim=smallest_dimension(loss, classes, self.lam_b),
            lam_w=1.0,
            lam_h=1.0,
            lam_b=self.lam_b,
            lam_hidden=(1.0,) * layers,
        )
        mu = decay * float(collapse_threshold(problem).mu)
        return dataclasses.replace(
            problem, lam_w=mu * balance, lam_h=mu / balance, lam_hidden=(mu,) * layers
        )


def smallest_dimension(loss: Loss, num_classes: int, lam_b: float | None) -> int:
    """The smallest d for which convex losses have no spurious minima.

    See `ufm.certificates.certificate`.
    """
    free = lam_b is not None and float(lam_b) == 0.0
    return num_classes - 1 if loss.shift_invariant or free else num_classes


def _uniform(key: Key[Array, ""], ends: Range) -> float:
    low, high = ends
    return low + (high - low) * float(jax.random.uniform(key, dtype=jnp.result_type(float)))
