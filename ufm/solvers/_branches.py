"""Choices inside compiled programs, cheap to compile and cheap in a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def either(condition: Array, x: Any, y: Any) -> Any:
    """x where the condition holds, else y.

    A branch is a copy, where `jnp.where` would be code to compile for every array.
    """
    return jax.lax.cond(condition, lambda x, y: x, lambda x, y: y, x, y)


def only_if(condition: Array, compute: Callable[[], Any], otherwise: Any) -> Any:
    """`compute()` where the condition holds, else what is given.

    A loop of one turn or none: a batch skips it where no entry wants it, while it would compute
    both branches of a `lax.cond` for every entry.
    """
    once = jax.lax.while_loop(
        lambda state: state[0],
        lambda state: (jnp.zeros_like(state[0]), compute()),
        (condition, otherwise),
    )
    return once[1]
