"""Check and convert the arguments of a `Problem`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from ufm._support.pytree import hyperparameter, require, whole_number
from ufm.losses import Hyper

if TYPE_CHECKING:
    Whole = int
    Counts = tuple[int, ...]
    Weights = Array
else:
    # The constructor accepts these types, and converts to the types above.
    Whole = int | np.integer
    Counts = tuple[Whole, ...] | list[Whole] | Int[np.ndarray, " K"]
    Weights = Float[Array, "*batch N"] | Shaped[np.ndarray, "*batch N"] | list


def checked_counts(given: Any) -> tuple[int, ...]:
    """The numbers of samples. Raises `TypeError` or `ValueError`, naming `class_counts`."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"class_counts must list the samples of each class, got {given!r}")
    return tuple(whole_number("class_counts", n) for n in given)


def checked_decays(**decays: Hyper | None) -> dict[str, Any]:
    """The decays by name, without a change of None. Raises `TypeError` or `ValueError`."""
    found: dict[str, Any] = {}
    for name, decay in decays.items():
        found[name] = None if decay is None and name == "lam_b" else hyperparameter(name, decay)
        if found[name] is not None:
            require(name, found[name], lambda x: x >= 0, "non-negative and finite")
    return found


def checked_weights(given: Weights | None, columns: int) -> Array | None:
    """The samples of each column. Raises `TypeError` or `ValueError`, naming `column_weights`."""
    if given is None:
        return None
    try:
        weights = jnp.asarray(given, jnp.result_type(float))
    except (TypeError, ValueError):
        raise TypeError(f"column_weights must be an array of numbers, got {given!r}") from None
    if weights.shape[-1:] != (columns,):
        raise ValueError(
            f"column_weights needs one weight for each of the {columns} columns, got shape "
            f"{weights.shape}"
        )
    largest = float(jnp.finfo(weights.dtype).max) / columns
    wanted = "positive, with a sum that is a finite number"
    require("column_weights", weights, lambda x: (x > 0) & (x <= largest), wanted)
    return weights
