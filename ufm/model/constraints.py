r"""Sets to which a factor is confined: classifier rows w_k and feature columns h_i.

    NonNegative      h_i ≥ 0 entry by entry (features after a ReLU); its weight decay stays
    Sphere(r)        ‖w_k‖ = r or ‖h_i‖ = r, each vector
    Ball(r)          ‖w_k‖ ≤ r or ‖h_i‖ ≤ r, each vector
    Budget(E)        the mean of ‖w_k‖² or of ‖h_i‖² is at most E (layer-peeled model)
    Fixed(W)         the classifier is given and not trained

A norm that is confined has no weight decay: `lam_w` or `lam_h` is then None. With `temperature` τ
the logits are v_i = W h_i/τ + b.

    >>> Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=5, dim=3, lam_w=None,
    ...                  lam_h=None, lam_b=None, classifier=Sphere(), features=Sphere(),
    ...                  temperature=0.5).num_parameters
    72
"""

from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float

from ufm._support.pytree import hyperparameter, pytree, require
from ufm._support.shown import Shown, text


class Constraint(Shown):
    """The set of a factor. `decayed` says whether the factor has a weight decay."""

    decayed: ClassVar[bool] = False
    #: The factors that it can confine.
    confines: ClassVar[tuple[str, ...]] = ("classifier", "features")
    #: The axes of an array that is no batch; other hyperparameters are scalars.
    ranks: ClassVar[dict[str, int]] = {}

    def label(self) -> str:
        """The set on one line, such as Sphere(radius=1)."""
        return text(self)

    def check(self, factor: str, outputs: int, dim: int) -> None:
        """Raise `ValueError`, naming the factor, if the set does not fit K and d."""
        if factor not in self.confines:
            wanted = " or ".join(self.confines)
            raise ValueError(f"{type(self).__name__} is for the {wanted}, not for the {factor}")


@pytree()
class NonNegative(Constraint):
    """Features with entries ≥ 0, decayed by `lam_h`."""

    decayed = True
    confines = ("features",)


@pytree()
class Sphere(Constraint):
    """Vectors of norm `radius` each."""

    radius: Float[Array, "*batch"] | float

    def __init__(self, radius: Any = 1.0) -> None:
        object.__setattr__(self, "radius", _positive("radius", radius))

    def check(self, factor: str, outputs: int, dim: int) -> None:
        """Raise `ValueError` for d = 1, where a sphere is two points."""
        super().check(factor, outputs, dim)
        if dim < 2:
            raise ValueError(
                f"{factor} on a sphere need dim ≥ 2, got {dim}: it is two points, which no "
                "gradient leaves"
            )


@pytree()
class Ball(Constraint):
    """Vectors of norm at most `radius` each."""

    radius: Float[Array, "*batch"] | float

    def __init__(self, radius: Any = 1.0) -> None:
        object.__setattr__(self, "radius", _positive("radius", radius))


@pytree()
class Budget(Constraint):
    """Vectors whose squared norms are at most `mean_square` on average."""

    mean_square: Float[Array, "*batch"] | float

    def __init__(self, mean_square: Any) -> None:
        object.__setattr__(self, "mean_square", _positive("mean_square", mean_square))


@pytree()
class Fixed(Constraint):
    """A classifier W (K, d) that is given and not trained."""

    matrix: Float[Array, "*batch K d"]

    confines = ("classifier",)
    ranks: ClassVar[dict[str, int]] = {"matrix": 2}
    _printed = ("shape", "rank")

    def __init__(self, matrix: Any) -> None:
        try:
            # A copy: the caller may change theirs.
            values = np.array(matrix, jax.numpy.result_type(float))
        except (TypeError, ValueError):
            raise TypeError(f"Fixed needs a matrix of numbers, got {matrix!r}") from None
        if values.ndim < 2:
            raise ValueError(f"Fixed needs a matrix W of shape (K, d), got shape {values.shape}")
        if not np.all(np.isfinite(values)):
            raise ValueError("the matrix of Fixed must be finite")
        if not np.any(values):
            raise ValueError("the matrix of Fixed is zero: every feature has the same logits")
        object.__setattr__(self, "matrix", jax.device_put(values))

    def check(self, factor: str, outputs: int, dim: int) -> None:
        """Raise `ValueError` unless the matrix is (K, d)."""
        super().check(factor, outputs, dim)
        if self.matrix.shape[-2:] != (outputs, dim):
            raise ValueError(
                f"the fixed classifier must have shape {(outputs, dim)}, got {self.matrix.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    @property
    def rank(self) -> int:
        """The rank of W."""
        return int(np.linalg.matrix_rank(np.asarray(self.matrix)))


def _positive(name: str, value: Any) -> Any:
    value = hyperparameter(name, value)
    require(name, value, lambda x: x > 0, "positive and finite")
    return value
