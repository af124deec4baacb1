"""Branches inside programs that are cheap to compile and cheap in a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def either(condition: Array, x: Any, y: Any) -> Any:
    """Return x if the condition holds, else y.

    A branch copies, whereas `jnp.where` adds code to compile for every array.
    """
    return jax.lax.cond(condition, lambda x, y: x, lambda x, y: y, x, y)


def only_if(condition: Array, compute: Callable[[], Any], otherwise: Any) -> Any:
    """Return `compute()` if the condition holds, else the given value.

    It is a loop of at most one iteration. A batch skips it if no entry needs it, whereas a batch
    computes both branches of a `lax.cond` for every entry.
    """
    once = jax.lax.while_loop(
        lambda state: state[0],
        lambda state: (jnp.zeros_like(state[0]), compute()),
        (condition, otherwise),
    )
    return once[1]
