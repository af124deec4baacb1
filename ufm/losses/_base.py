"""What a loss is: the interface that the rest of the library sees."""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

if TYPE_CHECKING:
    Hyper = float | Array
    """A hyperparameter: a number, or an array of them in a batch of problems."""
else:
    # What a hyperparameter may be given as; the constructors store a float or an array.
    Hyper = float | int | np.number | Float[Array, "*batch"] | Shaped[np.ndarray, "*batch"]
Logits = Float[Array, " K"]
Label = int | Int[Array, ""]
Scalar = Float[Array, ""]


def label_mask(z: Logits, label: Label) -> Bool[Array, " K"]:
    """True on the label's entry."""
    return jnp.arange(z.shape[0], dtype=jnp.int32) == jnp.asarray(label, jnp.int32)


def total(x: Logits) -> Scalar:
    """Σ_j x_j, as a product with ones.

    Over a batch of columns, XLA's CPU backend multiplies matrices two to four times faster than it
    adds up their rows.
    """
    return jnp.dot(jnp.ones_like(x), x, precision=jax.lax.Precision.HIGHEST)


def show(value: Any) -> str:
    """A hyperparameter in a label; batched or traced values have no one number."""
    return f"{value:g}" if isinstance(value, float) else "…"


class Refutation(NamedTuple):
    """What a loss is at one sample, where something is declared of it that could be false."""

    #: Below the declared bound, and not convex though declared so: beyond rounding.
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
        """The contradiction in words, for a single sample."""
        if self.below:
            return f"is {float(self.value):.6g}, which is below its declared lower_bound"
        bend, excess = float(self.least_curvature), float(self.tangent_excess)
        kink = f"its tangent passes {excess:.3g} above it"
        why = f"its Hessian has the eigenvalue {bend:.3g}" if bend < 0 else kink
        return f"is not convex, as convex=True declares ({why})"


class Loss(abc.ABC):
    """A loss seen from the logits. Subclasses are frozen pytrees of their hyperparameters."""

    name: ClassVar[str]
    #: L(z + c1, k) = L(z, k) for every c.
    shift_invariant: ClassVar[bool] = False
    #: Contrastive property of [Z22]: L(z, k) is at least its value with the other logits replaced
    #: by their mean. It makes the margin bound of `ufm.collapse.symmetric_solution`. What has it
    #: has a `profile`. Their minimisation property, one minimiser for each decay, is more: bounded
    #: losses lack it, and the focal loss where 1/K < p*(γ).
    contrastive: ClassVar[bool] = False
    #: `conjugate` is available.
    has_conjugate: ClassVar[bool] = False
    #: Convexity and lower bound are somebody's word, which samples can refute.
    declared: ClassVar[bool] = False
    #: Renaming the classes renames L: L(Πz, π(k)) = L(z, k) for every permutation.
    equivariant: ClassVar[bool] = True
    #: Axes of the fields that are arrays by nature, by name; all other fields are scalars.
    ranks: ClassVar[Mapping[str, int]] = {}

    @abc.abstractmethod
    def value(self, z: Logits, label: Label) -> Scalar:
        """L(z, k)."""

    @abc.abstractmethod
    def gradient(self, z: Logits, label: Label) -> Logits:
        """∇L(z, k), shape (K,)."""

    @abc.abstractmethod
    def curvature(self, z: Logits, label: Label) -> Any:
        """All that products with ∇²L(z, k) need, computed once: a tuple of arrays."""

    @abc.abstractmethod
    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        """∇²L x from a stored curvature, shape (K,): no exponentials."""

    def profile(self, s: Any, num_classes: int) -> Any:
        """φ(s) = L(s e_k, k), entry by entry, on the host or in a program."""
        raise NotImplementedError(f"no profile is known for {self.label()}")

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        """φ'(s)."""
        raise NotImplementedError(f"no profile is known for {self.label()}")

    def profile_convex_above(self, num_classes: int) -> Any:
        """The p_k above which φ is convex, and up to which it is concave; 0 if convex throughout.

        φ does not increase where it is concave.
        """
        raise NotImplementedError(f"no profile is known for {self.label()}")

    def far_slope(self) -> Any:
        """A number that −φ' does not go below where φ is concave; its limit as s → −∞."""
        return 0.0

    def hessian_product(self, z: Logits, label: Label, x: Logits) -> Logits:
        """∇²L(z, k) x, shape (K,)."""
        return self.curvature_product(self.curvature(z, label), x)

    @abc.abstractmethod
    def is_convex(self) -> bool | None:
        """Is L(·, k) convex for every label? None where unknown."""

    def infimum(self) -> float | None:
        """A number that L never falls below, or None where unknown."""
        return 0.0

    def refutation(self, z: Logits, label: Label, curved: bool = True) -> Refutation:
        """Whether L at z contradicts what is declared of it; its Hessian only if `curved`."""
        raise NotImplementedError(f"nothing is declared of {self.label()}")

    def probe(self, num_classes: int) -> None:  # noqa: B027  # most losses declare nothing
        """Raise `ValueError` where something declared of this loss is found to be false."""

    def hessian(self, z: Logits, label: Label) -> Float[Array, "K K"]:
        """∇²L(z, k), shape (K, K)."""
        curvature = self.curvature(z, label)
        columns = jax.vmap(lambda x: self.curvature_product(curvature, x))
        return columns(jnp.eye(z.shape[0], dtype=z.dtype))

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = sup_z γᵀz − L(z, k); +∞ where that is unbounded.

        Softmax losses take γ to sum to 0, which rounding of any gradient breaks.
        """
        raise NotImplementedError(f"no conjugate is known for {self.label()}")

    def rounding(self, z: Logits, label: Label) -> Scalar:
        """First-order bound on the rounding error of `value`, in units of (K + 16) eps.

        The unknown terms of a custom loss are taken to be of the size of its value and of the
        logits times the gradient, at z and at 0: differences of logits are rounded where they no
        longer matter too.
        """
        slope = jnp.abs(self.gradient(z, label)) + jnp.abs(self.gradient(jnp.zeros_like(z), label))
        return jnp.abs(self.value(z, label)) + jnp.sum(slope * jnp.abs(z))

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        """Estimate of the rounding error of ‖∇L(z, k)‖ in units of eps.

        z itself is in error by its `size`, the absolute values it was added up from. For an
        unknown loss that counts by way of the second derivative.
        """
        evaluation = jnp.linalg.norm(self.gradient(z, label))
        return evaluation + jnp.asarray(self.smoothness()[0], z.dtype) * jnp.linalg.norm(size)

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        """The same for `conjugate`."""
        raise NotImplementedError(f"no conjugate is known for {self.label()}")

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        """A bound on |∂L*/∂γ_j| for all j and all duals that lie within `error` of this one.

        ∞ where some of them are outside the domain of L*.
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
    """A loss whose derivatives are those that JAX finds."""

    def gradient(self, z: Logits, label: Label) -> Logits:
        return jax.grad(lambda logits: self.value(logits, label))(z)

    def curvature(self, z: Logits, label: Label) -> Any:
        return z, jnp.asarray(label, jnp.int32)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        z, label = curvature
        return jax.jvp(lambda logits: self.gradient(logits, label), (z,), (x,))[1]
