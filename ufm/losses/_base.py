"""The interface of a loss for the rest of the library."""

import abc
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from ufm._support.namespace import namespace, sigmoid

if TYPE_CHECKING:
    Hyper = float | Array
    """A hyperparameter: a number, or an array of them in a batch of problems."""
else:
    # The accepted types of a hyperparameter; the constructors store a float or an array.
    Hyper = float | int | np.number | Float[Array, "*batch"] | Shaped[np.ndarray, "*batch"]
Logits = Float[Array, " K"]
Label = int | Int[Array, ""]
Scalar = Float[Array, ""]


def label_mask(z: Logits, label: Label) -> Bool[Array, " K"]:
    """The mask that is True at the label's entry."""
    return jnp.arange(z.shape[0], dtype=jnp.int32) == jnp.asarray(label, jnp.int32)


def total(x: Logits) -> Scalar:
    """Σ_j x_j, as a product with ones.

    Over a batch of columns, XLA's CPU backend multiplies matrices two to four times faster than it
    adds up their rows.
    """
    return jnp.dot(jnp.ones_like(x), x, precision=jax.lax.Precision.HIGHEST)


def show(value: Any) -> str:
    """Format a hyperparameter for a label; batched or traced values have no single number."""
    return f"{value:g}" if isinstance(value, float) else "…"


class Refutation(NamedTuple):
    """The evidence at one sample against the declarations of a loss."""

    #: Whether the loss is below its declared bound, or not convex as declared, beyond rounding.
    below: Bool[Array, "*batch"]
    bent: Bool[Array, "*batch"]
    value: Float[Array, "*batch"]
    #: Least eigenvalue of the Hessian.
    least_curvature: Float[Array, "*batch"]
    #: How far the tangent at the sample passes above the loss elsewhere.
    tangent_excess: Float[Array, "*batch"]

    @property
    def refuted(self) -> Bool[Array, "*batch"]:
        return self.below | self.bent

    def explain(self) -> str:
        """Describe the contradiction at a single sample."""
        if self.below:
            return f"is {float(self.value):.6g}, which is below its declared lower_bound"
        bend, excess = float(self.least_curvature), float(self.tangent_excess)
        kink = f"its tangent passes {excess:.3g} above it"
        why = f"its Hessian has the eigenvalue {bend:.3g}" if bend < 0 else kink
        return f"is not convex, as convex=True declares ({why})"


class Loss(abc.ABC):
    """A loss as a function of logits. Subclasses are frozen pytrees of their hyperparameters."""

    name: ClassVar[str]
    #: L(z + c1, k) = L(z, k) for every c.
    shift_invariant: ClassVar[bool] = False
    #: Contrastive property of [Z22]: L(z, k) is at least its value with the other logits replaced
    #: by their mean. It implies the margin bound of `ufm.collapse.symmetric_solution`, and a loss
    #: with it has a `profile`. The minimisation property, one minimiser for each decay, is
    #: stronger: bounded losses lack it, as does the focal loss if 1/K < p*(γ).
    contrastive: ClassVar[bool] = False
    #: Whether φ may still fall at margins of 1e4, as with probabilities of polynomial tails.
    heavy_tailed: ClassVar[bool] = False
    #: Whether `conjugate` is available.
    has_conjugate: ClassVar[bool] = False
    #: Whether convexity and lower bound are declared by the user, so that samples can refute them.
    declared: ClassVar[bool] = False
    #: Equivariance: L(Πz, π(k)) = L(z, k) for every permutation π of the classes.
    equivariant: ClassVar[bool] = True
    #: Whether L is a quadratic function of the logits.
    quadratic: ClassVar[bool] = False
    #: Numbers of axes of the array fields, by name; all other fields are scalars.
    ranks: ClassVar[Mapping[str, int]] = {}

    @abc.abstractmethod
    def value(self, z: Logits, label: Label) -> Scalar:
        """L(z, k)."""

    @abc.abstractmethod
    def gradient(self, z: Logits, label: Label) -> Logits:
        """∇L(z, k), shape (K,)."""

    @abc.abstractmethod
    def curvature(self, z: Logits, label: Label) -> Any:
        """The arrays from which products with ∇²L(z, k) are computed."""

    @abc.abstractmethod
    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        """∇²L x from a stored curvature, shape (K,), without exponentials."""

    def profile(self, s: Any, num_classes: int) -> Any:
        """φ(s) = L(s e_k, k), elementwise, on the host or in a program."""
        raise NotImplementedError(f"no profile is known for {self.label()}")

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        """φ'(s)."""
        raise NotImplementedError(f"no profile is known for {self.label()}")

    def profile_convex_above(self, num_classes: int) -> Any:
        """The p_k above which φ is convex and below which it is concave; 0 if φ is convex.

        φ is nonincreasing on its concave part.
        """
        raise NotImplementedError(f"no profile is known for {self.label()}")

    def probability_at(self, s: Any, num_classes: int) -> Any:
        """The label's probability at equal rivals and margin s."""
        return sigmoid(s - math.log(num_classes - 1.0))

    def margin_at(self, p: Any, num_classes: int) -> Any:
        """The margin s at equal rivals where the label's probability is p in (0, 1)."""
        xp = namespace(p)
        return math.log(num_classes - 1.0) + xp.log(p) - xp.log1p(-p)

    def far_slope(self) -> Any:
        """A lower bound on −φ' over the concave part of φ: its limit as s → −∞."""
        return 0.0

    def hessian_product(self, z: Logits, label: Label, x: Logits) -> Logits:
        """∇²L(z, k) x, shape (K,)."""
        return self.curvature_product(self.curvature(z, label), x)

    @abc.abstractmethod
    def is_convex(self) -> bool | None:
        """Whether L(·, k) is convex for every label; None if unknown."""

    def infimum(self) -> float | None:
        """A lower bound on L, or None if unknown."""
        return 0.0

    def refutation(self, z: Logits, label: Label, curved: bool = True) -> Refutation:
        """Test the declarations of L at z; the Hessian is tested only if `curved`."""
        raise NotImplementedError(f"nothing is declared of {self.label()}")

    def without_targets(self) -> "tuple[Loss, np.ndarray | None]":
        """The loss of class labels that was given with targets, and those (m, K), or None."""
        return self, None

    @property
    def num_outputs(self) -> int | None:
        """K if the loss determines it (it has targets); None if it is the number of classes."""
        return None

    def probe(self, num_groups: int, num_outputs: int) -> None:  # noqa: B027
        """Raise `ValueError` for a false declaration, or arrays of other sizes."""

    def hessian(self, z: Logits, label: Label) -> Float[Array, "K K"]:
        """∇²L(z, k), shape (K, K)."""
        curvature = self.curvature(z, label)
        columns = jax.vmap(lambda x: self.curvature_product(curvature, x))
        return columns(jnp.eye(z.shape[0], dtype=z.dtype))

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = sup_z γᵀz − L(z, k); +∞ if that is unbounded.

        Softmax losses assume that γ sums to 0, which a computed gradient does only up to rounding.
        """
        raise NotImplementedError(f"no conjugate is known for {self.label()}")

    def rounding(self, z: Logits, label: Label) -> Scalar:
        """First-order bound on the rounding error of `value`, in units of (K + 16) eps.

        The unknown terms of a custom loss are assumed to be as large as its value and as the logits
        times the gradient, at z and at 0. The gradient at 0 is included because differences of
        logits are rounded even where the loss no longer depends on them.
        """
        slope = jnp.abs(self.gradient(z, label)) + jnp.abs(self.gradient(jnp.zeros_like(z), label))
        return jnp.abs(self.value(z, label)) + jnp.sum(slope * jnp.abs(z))

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        """Estimate of the rounding error of ‖∇L(z, k)‖ in units of eps.

        The error of z is proportional to `size`, the sum of the absolute values of its terms. For a
        custom loss it enters through the second derivative.
        """
        evaluation = jnp.linalg.norm(self.gradient(z, label))
        return evaluation + jnp.asarray(self.smoothness()[0], z.dtype) * jnp.linalg.norm(size)

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        """Bound the rounding error of `conjugate` in the same way."""
        raise NotImplementedError(f"no conjugate is known for {self.label()}")

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        """A bound on |∂L*/∂γ_j| for all j and all dual points within `error` of this one.

        It is ∞ if some of them are outside the domain of L*.
        """
        raise NotImplementedError(f"no conjugate is known for {self.label()}")

    def margin_slope(self) -> Scalar | float | None:
        """A constant c > 0 with L(z, k) ≥ c (max_j z_j − z_k) for all z, or None."""
        return None

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        """Bounds on the norms of the second and third derivative (assumed 1 for custom losses)."""
        return 1.0, 1.0

    def convex_above(self) -> Any:
        """p* such that L is convex on {z : p_k ≥ p*}; 0 if convex everywhere, None if unknown."""
        return 0.0 if self.is_convex() else None

    def label(self) -> str:
        """Short name with hyperparameters, for tables."""
        return self.name


class AutodiffLoss(Loss):
    """A loss that JAX differentiates automatically."""

    def gradient(self, z: Logits, label: Label) -> Logits:
        return jax.grad(lambda logits: self.value(logits, label))(z)

    def curvature(self, z: Logits, label: Label) -> Any:
        return z, jnp.asarray(label, jnp.int32)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        z, label = curvature
        return jax.jvp(lambda logits: self.gradient(logits, label), (z,), (x,))[1]
