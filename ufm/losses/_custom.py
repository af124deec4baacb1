"""A loss given by a function that JAX can differentiate."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ufm._support.pytree import hyperparameter, pytree, static
from ufm._support.quick_jit import quick_jit, within_a_trace
from ufm.losses._base import AutodiffLoss, Label, Logits, Refutation, Scalar

#: Largest and smallest number of random logits at which a new problem tests the declarations of its
#: loss, and the number of operations that this may take.
_PROBES, _FEWEST_PROBES, _PROBE_WORK = 32, 4, 2e7


@pytree()
class CustomLoss(AutodiffLoss):
    """A custom loss, `fn(logits (K,), label, **params) -> scalar`, differentiated automatically.

    `fn` is static: define it once, at module level, or every solve recompiles. `params` are traced.
    `convex=True` declares fn convex in the logits for every label; `lower_bound` bounds it from
    below. Declare only what you can prove: certificates rest on both, and without them are
    UNDECIDED. `Problem` tests both at random logits (`ValueError`), `certify` at the samples
    (UNDECIDED); a test is not a proof. Raises `TypeError` or `ValueError`, naming the argument.
    """

    fn: Callable[..., Any] = static()
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convex: bool | None = static(default=None)
    lower_bound: float | None = static(default=None)
    name: ClassVar[str] = "custom"
    declared: ClassVar[bool] = True
    #: An unknown function need not treat all labels alike.
    equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn must be a function (logits, label, **params), got {self.fn!r}")
        if not isinstance(self.params, Mapping):
            raise TypeError(f"params must be a dictionary of numbers, got {self.params!r}")
        if self.convex is not None and not isinstance(self.convex, bool | np.bool_):
            raise TypeError(f"convex must be True, False or None (unknown), got {self.convex!r}")
        if self.convex is not None:
            object.__setattr__(self, "convex", bool(self.convex))
        if self.lower_bound is not None:
            lowest = hyperparameter("lower_bound", self.lower_bound)
            if not isinstance(lowest, float) or not math.isfinite(lowest):
                raise ValueError(
                    "lower_bound must be one finite number, or None where none is known, "
                    f"got {self.lower_bound!r}"
                )
            object.__setattr__(self, "lower_bound", lowest)
        params = {k: hyperparameter(k, v) for k, v in dict(self.params).items()}
        object.__setattr__(self, "params", params)

    def is_convex(self) -> bool | None:
        return self.convex

    def infimum(self) -> float | None:
        return self.lower_bound

    def value(self, z: Logits, label: Label) -> Scalar:
        params = {k: jnp.asarray(v, z.dtype) for k, v in self.params.items()}
        value = jnp.asarray(self.fn(z, label, **params), z.dtype)
        if value.shape != ():
            raise TypeError(f"fn must return one number, got an array of shape {value.shape}")
        return value

    def refutation(self, z: Logits, label: Label, curved: bool = True) -> Refutation:
        """Test whether fn contradicts its declarations at z, beyond rounding.

        A convex fn has a Hessian without negative eigenvalues (tested if `curved`), and lies above
        its tangent at z also at 0 and −z. Values that are not finite refute nothing.
        """
        value, slope = self.value(z, label), self.gradient(z, label)
        allowance = (z.shape[0] + 16) * float(jnp.finfo(z.dtype).eps) * self.rounding(z, label)
        below = False if self.lower_bound is None else value < self.lower_bound - allowance
        least = above = jnp.zeros_like(value)
        bent = jnp.asarray(False)
        if self.convex:
            origin = jnp.zeros_like(z)
            # Second derivatives cancel: they are accurate to the root of eps, relative to their
            # size here or at 0, along the label.
            known = float(jnp.finfo(z.dtype).eps) ** 0.5
            if curved:
                here = _finite(self.hessian(z, label))
                least = jnp.linalg.eigvalsh(0.5 * (here + here.T))[0]
                axis = jax.nn.one_hot(label, z.shape[0], dtype=z.dtype)
                there = _finite(self.hessian_product(origin, label, axis))
                bent = least < -known * (jnp.linalg.norm(here) + jnp.linalg.norm(there))
            for there in (origin, -z):
                level = self.value(there, label)
                terms = jnp.abs(value) + jnp.abs(level) + jnp.sum(jnp.abs(slope * (there - z)))
                excess = value + jnp.dot(slope, there - z) - level
                bent |= excess > known * terms
                above = jnp.fmax(above, excess)
        return Refutation(jnp.asarray(below), bent, value, least, above)

    def probe(self, num_groups: int, num_outputs: int) -> None:
        """Raise `ValueError` if a declaration is false at one of a few random logits."""
        numbers = tuple(self.params.values())
        undeclared = not self.convex and self.lower_bound is None
        if undeclared or not all(isinstance(number, float) for number in numbers):
            return  # batched or traced: there is no single number to test
        if within_a_trace():
            return  # made within a function that is being traced
        kind = (self.fn, tuple(self.params), numbers, self.convex, self.lower_bound)
        key = (kind, num_outputs, jnp.result_type(float))
        if key in _PASSED:
            return
        affordable = int(_PROBE_WORK / num_outputs**3)
        count = min(_PROBES, max(_FEWEST_PROBES, affordable))
        rng = np.random.default_rng(0)
        sizes = np.geomspace(0.03, 30.0, count)[:, None]
        z = sizes * rng.standard_normal((count, num_outputs))
        labels = rng.permutation(np.linspace(0, num_outputs - 1, count).astype(np.int32))
        found = _refutations(self, jnp.asarray(z, jnp.result_type(float)), jnp.asarray(labels))
        for i in np.flatnonzero(found.refuted):
            witness = Refutation(*(x[i] for x in found))
            point = np.array2string(z[i], precision=4, threshold=8)
            raise ValueError(
                f"the loss {self.label()} {witness.explain()}, at logits {point} and label "
                f"{labels[i]}: correct what is declared of it"
            )
        _PASSED.add(key)

    def label(self) -> str:
        return getattr(self.fn, "__name__", "custom")


#: Losses that random logits did not refute: each change of a decay makes a new problem.
_PASSED: set[Any] = set()


@quick_jit
def _refutations(loss: CustomLoss, z: Any, labels: Any) -> Refutation:
    # One by one: batched factorisations must not run in two threads
    # (ufm._support.threads).
    return jax.lax.map(lambda pair: loss.refutation(*pair), (z, labels))


def _finite(x: Any) -> Any:
    """Whether all entries are finite: LAPACK may not return otherwise."""
    return jnp.where(jnp.all(jnp.isfinite(x)), x, 0.0)
