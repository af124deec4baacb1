r"""The problem: classifier, free features and bias under weight decay.

    f(W, H, b) = g(WH + b1ᵀ) + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖²,
    g(V) = (1/N) Σ_i L(v_i, y_i)

with W (K×d), H (d×N) with samples ordered by class, b (K). Gradient, with G = ∇g(V) (K×N):

    ∂_W = G Hᵀ + λ_W W,   ∂_H = Wᵀ G + λ_H H,   ∂_b = G 1 + λ_b b.

**Weighted columns.** Column i may stand for c_i identical samples. Then H holds ĥ_i = √c_i h_i,
which keeps the penalty λ_H/2 ‖H‖², and

    v_i = W ĥ_i / √c_i + b,   g(V) = Σ_i ω_i L(v_i, y_i),   ω_i = c_i / Σ c.

Objective, gradient norm and Hessian form equal those of the problem with repeated columns.
`G` is always the gradient in Z = WĤ, the matrix whose spectral norm the certificates compare
with μ = √(λ_W λ_H); `Γ` is the gradient in V, and G = Γ diag(1/√c).

    >>> problem = Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=5, dim=6,
    ...                            lam_w=5e-3, lam_h=5e-3, lam_b=1e-2)
    >>> problem
    Problem
      loss          CrossEntropy()
      class_counts  (5, 5, 5, 5)
      dim           6
      lam_w         0.005
      lam_h         0.005
      lam_b         0.01
    >>> params = init_params(problem, jax.random.key(0))
    >>> round(float(objective(problem, params)), 6)
    1.390349
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ufm._support.namespace import namespace
from ufm._support.pytree import pytree, static, whole_number
from ufm._support.shown import Shown
from ufm.losses import CrossEntropy, GroupedLoss, Hyper, Loss, against
from ufm.model.checks import (
    Counts,
    Weights,
    Whole,
    checked_counts,
    checked_decays,
    checked_hidden,
    checked_sets,
    checked_weights,
)
from ufm.model.constraints import Constraint
from ufm.model.params import Params as Params
from ufm.model.params import dot as dot
from ufm.model.params import norm as norm
from ufm.model.variant import Variant, variant_of

Scalar = Float[Array, ""]


@pytree()
class Problem(Shown):
    """An instance of the unconstrained feature model.

    `class_counts` (n_1, …, n_K) and `dim` (d) are static; the loss's hyperparameters and the
    decays are traced. `lam_b=None` means no bias, `lam_b=0.0` a free one. `column_weights` (N,)
    makes column i stand for that many samples.

    With `targets` (m, K), class_counts (n_1, …, n_m) are the sizes of m groups of samples, and row
    i is the target of group i: a distribution or the indicator of a set of labels for CE and LS,
    numbers in [0, 1] for BCE, any numbers for MSE (regression), one-hot for other losses. `loss` is
    then the loss against them; targets that are the labels in order change nothing.

    `classifier` and `features` confine a factor (`ufm.model.constraints`); a norm that is confined
    has no decay, and None is given for it. `temperature` τ divides W h_i. `lam_hidden` adds a
    linear layer for each decay in it, from W to H: Z = W F_1 ⋯ F_L H, with `hidden_dims` for the
    widths between W and F_1, F_1 and F_2, …, all d if None.

    Raises `ValueError` or `TypeError`, naming the field, if an argument is invalid.
    """

    loss: Loss
    class_counts: tuple[int, ...] = static()
    dim: int = static()
    #: `lam_w` and `lam_h` are None, against their types, where a norm is confined.
    lam_w: Hyper
    lam_h: Hyper
    lam_b: Hyper | None
    column_weights: Array | None = None
    classifier: Constraint | None = None
    features: Constraint | None = None
    temperature: Hyper | None = None
    lam_hidden: tuple[Hyper, ...] = ()
    hidden_dims: tuple[int, ...] = static(default=())

    _optional = (
        *("lam_w", "lam_h", "column_weights", "classifier", "features"),
        *("temperature", "lam_hidden", "hidden_dims"),
    )

    def __init__(
        self,
        loss: Loss,
        class_counts: Counts,
        dim: Whole,
        lam_w: Hyper | None,
        lam_h: Hyper | None,
        lam_b: Hyper | None,
        column_weights: Weights | None = None,
        targets: Any = None,
        *,
        classifier: Constraint | None = None,
        features: Constraint | None = None,
        temperature: Hyper | None = None,
        lam_hidden: tuple[Hyper, ...] = (),
        hidden_dims: tuple[int, ...] | None = None,
    ) -> None:
        if not isinstance(loss, Loss):
            raise TypeError(f"loss must be a ufm loss such as ufm.CrossEntropy(), got {loss!r}")
        counts = checked_counts(class_counts)
        if targets is not None:
            loss = against(loss, targets, len(counts))
        least = 2 if loss.num_outputs is None else 1
        if len(counts) < least:
            what = "classes" if least == 2 else "group of samples"
            raise ValueError(f"class_counts needs at least {least} {what}, got {len(counts)}")
        loss.probe(len(counts), loss.num_outputs or len(counts))
        sets = {"classifier": classifier, "features": features}
        dim = whole_number("dim", dim)
        fields = {
            "loss": loss,
            "class_counts": counts,
            "dim": dim,
            **checked_decays(sets, lam_w=lam_w, lam_h=lam_h, lam_b=lam_b),
            "column_weights": checked_weights(column_weights, sum(counts)),
            **checked_sets(sets, temperature, loss.num_outputs or len(counts), dim),
            **checked_hidden(lam_hidden, hidden_dims, dim, sets),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def balanced(
        cls,
        *,
        loss: Loss,
        num_classes: int,
        per_class: int,
        dim: int,
        lam_w: Hyper | None,
        lam_h: Hyper | None,
        lam_b: Hyper | None,
        **variant: Any,
    ) -> "Problem":
        """K classes of n samples each; `variant` is as for a `Problem`."""
        counts = (whole_number("per_class", per_class),) * whole_number("num_classes", num_classes)
        decays = {"lam_w": lam_w, "lam_h": lam_h, "lam_b": lam_b}
        return cls(loss=loss, class_counts=counts, dim=dim, **decays, **variant)

    @property
    def constraints(self) -> dict[str, Constraint]:
        """The sets of the factors that are confined, by the factor's name."""
        both = {"classifier": self.classifier, "features": self.features}
        return {name: found for name, found in both.items() if found is not None}

    @property
    def variant(self) -> Variant | None:
        """Who answers for this problem; None for the plain model."""
        plain = self.classifier is None and self.features is None and not self.lam_hidden
        return None if plain else variant_of(self)

    @property
    def num_classes(self) -> int:
        """The number of classes, or of groups of samples with the same target."""
        return len(self.class_counts)

    @property
    def num_outputs(self) -> int:
        """K, the number of logits: that of classes, unless there are targets."""
        return self.loss.num_outputs or self.num_classes

    @property
    def has_targets(self) -> bool:
        """Whether classes are groups of samples with a target each, which need not be a label."""
        return self.loss.num_outputs is not None

    @property
    def targets(self) -> Float[np.ndarray, "*batch m K"] | None:
        """The target of each group, as a row; None for class labels."""
        return self.loss.without_targets()[1]

    @property
    def num_columns(self) -> int:
        """The number of columns of H: N, the number of samples, unless columns are weighted."""
        return sum(self.class_counts)

    @property
    def labels(self) -> Int[np.ndarray, " N"]:
        """The label of each column, ordered by class."""
        return np.repeat(np.arange(self.num_classes, dtype=np.int32), self.class_counts)

    @property
    def has_bias(self) -> bool:
        return self.lam_b is not None

    @property
    def per_class(self) -> int | None:
        """n if the classes are balanced and columns unweighted, else None."""
        balanced = len(set(self.class_counts)) == 1 and self.column_weights is None
        return self.class_counts[0] if balanced else None

    @property
    def num_parameters(self) -> int:
        """Kd + dN (+ K), and the entries of hidden layers."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters by name: W, H, hidden[0], …, b."""
        widths = (*self.hidden_dims, self.dim)
        hidden = zip(self.hidden_dims, widths[1:], strict=True)
        return {
            "W": (self.num_outputs, widths[0]),
            "H": (self.dim, self.num_columns),
            **{f"hidden[{i}]": shape for i, shape in enumerate(hidden)},
            **({"b": (self.num_outputs,)} if self.has_bias else {}),
        }

    def decays(self, dtype: Any) -> tuple[Any, Any, Any]:
        """λ_W, λ_H and λ_b in a precision; 0 for a factor without one."""
        lam_w, lam_h, lam_b = (
            jnp.asarray(0.0 if decay is None else decay, dtype)
            for decay in (self.lam_w, self.lam_h, self.lam_b)
        )
        return lam_w, lam_h, lam_b

    def mu(self, dtype: Any = None) -> Any:
        """μ = √(λ_W λ_H), a NumPy number if the decays are Python or NumPy numbers."""
        if any(decay is None for decay in (self.lam_w, self.lam_h)):
            raise ValueError("μ = √(λ_W λ_H) is for weight decay of both factors")
        xp, dtype = namespace(self.lam_w, self.lam_h), dtype or jnp.result_type(float)
        # Roots first: the product of two decays of 1e-25 underflows in float32.
        roots = (xp.sqrt(xp.asarray(decay, dtype)) for decay in (self.lam_w, self.lam_h))
        return xp.asarray(xp.multiply(*roots))

    def samples(self, dtype: Any) -> Float[Array, " N"]:
        """c: the number of samples that each column stands for."""
        if self.column_weights is None:
            return jnp.ones(self.num_columns, dtype)
        return jnp.asarray(self.column_weights, dtype)


def without_loss(problem: Problem) -> Problem:
    """The same problem with a loss that has no parameters.

    Functions that do not use the loss are then compiled once for all losses.
    """
    plain = CrossEntropy()
    if problem.has_targets:
        plain = GroupedLoss(plain, (0,) * problem.num_classes, problem.num_outputs)
    return dataclasses.replace(problem, loss=plain)


def check_shapes(problem: Problem, params: Params) -> None:
    """Raise `ValueError` for wrong shapes, `TypeError` unless all are float32 or float64."""
    if params.b is not None and not problem.has_bias:
        raise ValueError("params.b is given but the problem has no bias: set lam_b, or b=None")
    expected, layers = problem.shapes, len(problem.hidden_dims)
    if len(params.hidden) != layers:
        raise ValueError(f"params.hidden must have {layers} matrices, got {len(params.hidden)}")
    given = {"W": params.W, "H": params.H, "b": params.b}
    given |= {f"hidden[{i}]": matrix for i, matrix in enumerate(params.hidden)}
    for name, shape in expected.items():
        found = getattr(given[name], "shape", None)
        if found != shape:
            raise ValueError(f"params.{name} must have shape {shape} for this problem, got {found}")
    kinds = sorted({str(given[name].dtype) for name in expected})
    if kinds not in (["float32"], ["float64"]):
        found, cast = " and ".join(kinds), "jax.tree.map(lambda x: jax.numpy.asarray(x, float), …)"
        raise TypeError(f"params must be all float32 or all float64, got {found}: use {cast}")
