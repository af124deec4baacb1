r"""Losses of affine images of the logits: L(z, k) = a_k · L̃(D ⊙ z + c, λ(k)), D > 0 entrywise.

Derivatives, conjugate and rounding bounds follow from those of L̃. With u = D ⊙ z + c,

    ∇L = a D ⊙ ∇L̃(u),   ∇²L = a diag(D) ∇²L̃(u) diag(D),   L*(γ) = a L̃*(γ/(aD)) − ⟨γ/D, c⟩.
"""

import abc
from typing import Any, NamedTuple

import jax.numpy as jnp

from ufm.losses._base import Label, Logits, Loss, Refutation, Scalar


class Image(NamedTuple):
    """L̃ with its label, and a, D, c at one sample; None stands for 1, 1 and 0."""

    loss: Loss
    label: Label
    weight: Scalar | None = None
    scale: Scalar | Logits | None = None
    shift: Logits | None = None

    def of(self, z: Logits) -> Logits:
        """u."""
        u = self.scaled(z)
        return u if self.shift is None else u + self.shift

    def scaled(self, x: Logits) -> Logits:
        """D ⊙ x."""
        return x if self.scale is None else self.scale * x

    def weighted(self, x: Any) -> Any:
        """a x."""
        return x if self.weight is None else self.weight * x

    def size(self, terms: Logits) -> Logits:
        """The absolute terms of u, from those of z."""
        size = self.scaled(terms)
        return size if self.shift is None else size + jnp.abs(self.shift)

    def dual(self, dual: Logits) -> Logits:
        """γ/(aD)."""
        dual = dual if self.scale is None else dual / self.scale
        return dual if self.weight is None else dual / self.weight

    def offset(self, dual: Logits) -> Logits:
        """γ ⊙ c/D, for c other than 0."""
        assert self.shift is not None
        return dual * (self.shift if self.scale is None else self.shift / self.scale)


class AffineLoss(Loss):
    """A loss of an affine image of the logits; subclasses define `_image`."""

    loss: Loss

    @abc.abstractmethod
    def _image(self, z: Logits, label: Label) -> Image:
        """What is applied to logits like z with this label."""

    # What kind of function it is follows from the loss.

    @property
    def has_conjugate(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.has_conjugate

    @property
    def quadratic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.quadratic

    @property
    def declared(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.declared

    def is_convex(self) -> bool | None:
        return self.loss.is_convex()

    def refutation(self, z: Logits, label: Label, curved: bool = True) -> Refutation:
        at = self._image(z, label)
        return at.loss.refutation(at.of(z), at.label, curved)

    @property
    def num_outputs(self) -> int | None:
        return self.loss.num_outputs

    def infimum(self) -> float | None:
        least = self.loss.infimum()
        return None if least is None or least < 0 else 0.0

    # Values and derivatives.

    def value(self, z: Logits, label: Label) -> Scalar:
        at = self._image(z, label)
        return at.weighted(at.loss.value(at.of(z), at.label))

    def gradient(self, z: Logits, label: Label) -> Logits:
        at = self._image(z, label)
        return at.weighted(at.scaled(at.loss.gradient(at.of(z), at.label)))

    def curvature(self, z: Logits, label: Label) -> Any:
        at = self._image(z, label)
        return at.weight, at.scale, at.loss.curvature(at.of(z), at.label)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        weight, scale, inner = curvature
        at = Image(self.loss, 0, weight, scale)
        return at.weighted(at.scaled(self.loss.curvature_product(inner, at.scaled(x))))

    def rounding(self, z: Logits, label: Label) -> Scalar:
        at = self._image(z, label)
        found = at.loss.rounding(at.of(z), at.label)
        if at.shift is not None:  # u may be a small difference of larger numbers
            slope = jnp.abs(at.loss.gradient(at.of(z), at.label))
            found += jnp.sum(slope * at.size(jnp.abs(z)))
        return at.weighted(found)

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        at = self._image(z, label)
        found = at.loss.gradient_rounding(at.of(z), at.label, at.size(size))
        return at.weighted(found if at.scale is None else jnp.max(at.scale) * found)

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        at = self._image(dual, label)
        found = at.weighted(at.loss.conjugate(at.dual(dual), at.label))
        return found if at.shift is None else found - jnp.sum(at.offset(dual))

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        at = self._image(dual, label)
        found = at.weighted(at.loss.conjugate_rounding(at.dual(dual), at.label))
        return found if at.shift is None else found + jnp.sum(jnp.abs(at.offset(dual)))

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        at = self._image(dual, label)
        slope = at.loss.conjugate_slope(at.dual(dual), at.label, at.dual(error))
        if at.scale is not None:
            slope = slope / jnp.min(at.scale)
        if at.shift is None:
            return slope
        return slope + jnp.max(jnp.abs(at.offset(jnp.ones_like(dual))))
