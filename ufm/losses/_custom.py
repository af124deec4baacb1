"""Any loss that JAX can differentiate."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ufm._pytree import hyperparameter, pytree, static
from ufm.losses._base import Label, Logits, Loss, Scalar


@pytree()
class CustomLoss(Loss):
    """Your own loss: `fn(logits (K,), label, **params) -> scalar`, derivatives by autodiff.

    `fn` is static (define it once, at module level, or every solve recompiles); `params` are
    traced. Say `convex=True` and a `lower_bound` only where you can prove them: certificates
    rest on both, and without them the verdict is UNDECIDED, never a guess.
    """

    fn: Callable[..., Any] = static()
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convex: bool | None = static(default=None)
    lower_bound: float | None = static(default=None)
    name: ClassVar[str] = "custom"
    #: Nothing says that a function treats all labels alike.
    equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn must be a function (logits, label, **params), got {self.fn!r}")
        if not isinstance(self.params, Mapping):
            raise TypeError(f"params must be a dictionary of numbers, got {self.params!r}")
        params = {k: hyperparameter(k, v) for k, v in dict(self.params).items()}
        object.__setattr__(self, "params", params)

    def is_convex(self) -> bool | None:
        return self.convex

    def infimum(self) -> float | None:
        return self.lower_bound

    def value(self, z: Logits, label: Label) -> Scalar:
        params = {k: jnp.asarray(v, z.dtype) for k, v in self.params.items()}
        return jnp.asarray(self.fn(z, label, **params), z.dtype)

    def gradient(self, z: Logits, label: Label) -> Logits:
        return jax.grad(lambda logits: self.value(logits, label))(z)

    def curvature(self, z: Logits, label: Label) -> Any:
        return z, jnp.asarray(label, jnp.int32)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        z, label = curvature
        return jax.jvp(lambda logits: self.gradient(logits, label), (z,), (x,))[1]

    def label(self) -> str:
        return getattr(self.fn, "__name__", "custom")
