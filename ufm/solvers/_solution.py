"""The result of a solver: the point, and how the run ended."""

import dataclasses
import enum
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.model.problem import Params

#: Number of entries in a history, for a run of any length.
HISTORY_LENGTH = 256


class Status(enum.IntEnum):
    """How a run ended. Only CONVERGED means that the gradient norm is within the tolerance."""

    CONVERGED = 0
    MAX_STEPS = 1
    STALLED = 2
    NON_FINITE = 3


_ADVICE = {
    Status.CONVERGED: "the gradient norm is within the tolerance",
    Status.MAX_STEPS: (
        "the maximum number of steps was reached: increase max_steps, or use a faster method "
        "(first-order methods need very many steps where the decay is small)"
    ),
    Status.STALLED: (
        "neither f nor its gradient improved any more: in float32 use float64 "
        "(jax.config.update('jax_enable_x64', True)), otherwise a larger tol or another method; "
        "check that the loss is bounded below"
    ),
    Status.NON_FINITE: (
        "the loss or its gradient became NaN or infinite: check the starting point, its scale, "
        "and the derivatives of a custom loss"
    ),
}


@pytree()
class History(Shown):
    """The run at up to 256 steps: every step at first, then geometrically spaced steps.

    The last used entry is the returned point. Unused entries are NaN, with step −1.
    """

    step: Int[Array, "*batch T"]
    products: Int[Array, "*batch T"]
    value: Float[Array, "*batch T"]
    grad_norm: Float[Array, "*batch T"]


@pytree()
class Solution(Shown):
    """The result of a run.

    `num_products` counts passes over the data: evaluations of the gradient (with or without the
    value) and Hessian products. Trial values that need no matrix product are not counted.
    `status` is a `Status`, or its integer code in a batch. If the run did not converge, `params` is
    the best point of the run.
    """

    params: Params
    value: Float[Array, "*batch"]
    grad_norm: Float[Array, "*batch"]
    num_steps: Int[Array, "*batch"]
    num_products: Int[Array, "*batch"]
    status: Any
    tol: Float[Array, "*batch"]
    history: History

    _printed = ("status", "value", "grad_norm", "tol", "num_steps", "num_products", "params")

    def explain(self) -> str:
        """Say in one sentence how the run ended, and what to change if it did not converge."""
        status = Status(int(self.status))
        return (
            f"{status.name} after {int(self.num_steps)} steps with gradient norm "
            f"{float(self.grad_norm):.2e} (tolerance {float(self.tol):.1e}): {_ADVICE[status]}"
        )


def continued(first: Solution, then: Solution) -> History:
    """Join the histories of a run and of its continuation, or of batches of them.

    The point where they meet appears once, as the second run recorded it. If there is no room for
    both, entries from the end of the first history are dropped.
    """
    lengths = [
        jnp.sum(run.history.step >= 0, axis=-1, keepdims=True, dtype=jnp.int32)
        for run in (first, then)
    ]
    kept = jnp.minimum(lengths[0] - 1, HISTORY_LENGTH - lengths[1])
    slots = jnp.arange(HISTORY_LENGTH, dtype=jnp.int32)
    # The remaining entries are the empty slots of the second history.
    slots = jnp.broadcast_to(slots, first.history.step.shape)
    source = jnp.where(slots < kept, slots, HISTORY_LENGTH + slots - kept)
    counts = {"step": first.num_steps, "products": first.num_products}

    def join(name: str) -> Array:
        before, after = getattr(first.history, name), getattr(then.history, name)
        if name in counts:
            after = jnp.where(after >= 0, after + jnp.asarray(counts[name])[..., None], after)
        both = jnp.concatenate([before.astype(after.dtype), after], axis=-1)
        return jnp.take_along_axis(both, source, axis=-1)

    return History(*(join(field.name) for field in dataclasses.fields(History)))
