"""Check and convert the arguments of a `Problem`."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from ufm._support.pytree import hyperparameter, require, whole_number
from ufm.losses import Hyper
from ufm.model.constraints import Constraint

if TYPE_CHECKING:
    Whole = int
    Counts = tuple[int, ...]
    Weights = Array
else:
    # The constructor accepts these types, and converts to the types above.
    Whole = int | np.integer
    Counts = tuple[Whole, ...] | list[Whole] | Int[np.ndarray, " K"]
    Weights = Float[Array, "*batch N"] | Shaped[np.ndarray, "*batch N"] | list

#: 64 GiB of features.
_MOST_NUMBERS = 2**33


def check_size(classes: int, samples: int, dim: int) -> None:
    """Raise `ValueError` for sizes of a run that exceed any memory."""
    numbers = (classes + samples) * dim
    if max(numbers, classes) > _MOST_NUMBERS:
        raise ValueError(
            f"{classes:,} classes, {samples:,} samples and {dim:,} dimensions make {numbers:,} "
            f"numbers, more than the {_MOST_NUMBERS:,} a run can have"
        )


def checked_counts(given: Any) -> tuple[int, ...]:
    """The numbers of samples. Raises `TypeError` or `ValueError`, naming `class_counts`."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"class_counts must list the samples of each class, got {given!r}")
    return tuple(whole_number("class_counts", n) for n in given)


def checked_decays(sets: Mapping[str, Constraint | None], **decays: Hyper | None) -> dict[str, Any]:
    """The decays by name, without a change of None. Raises `TypeError` or `ValueError`."""
    found: dict[str, Any] = {}
    factors = {"lam_w": "classifier", "lam_h": "features"}
    for name, decay in decays.items():
        confined = sets.get(factors.get(name, ""))
        free = confined is None or confined.decayed
        if not free and decay is not None:
            raise ValueError(
                f"{name} must be None with {factors[name]}={type(confined).__name__}, which "
                f"confines the norm, got {decay!r}"
            )
        if free and decay is None and name != "lam_b":
            raise ValueError(
                f"{name} must be a number, got None: only a confined norm has no decay"
            )
        found[name] = None if decay is None else hyperparameter(name, decay)
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


def checked_sets(
    sets: Mapping[str, Constraint | None], temperature: Hyper | None, outputs: int, dim: int
) -> dict[str, Any]:
    """The sets of the factors and the temperature. Raises `TypeError` or `ValueError`."""
    for factor, confined in sets.items():
        if confined is None:
            continue
        if not isinstance(confined, Constraint):
            raise TypeError(f"{factor} must be a set such as ufm.Sphere(), got {confined!r}")
        confined.check(factor, outputs, dim)
    if temperature is None:
        return {**sets, "temperature": None}
    temperature = hyperparameter("temperature", temperature)
    require("temperature", temperature, lambda x: x > 0, "positive and finite")
    if all(confined is None or confined.decayed for confined in sets.values()):
        raise ValueError(
            "temperature is for a classifier or features of confined norm: under weight decay "
            "alone, give lam_w·τ² instead"
        )
    return {**sets, "temperature": temperature}


def checked_hidden(
    lam_hidden: Any, hidden_dims: Any, dim: int, sets: Mapping[str, Constraint | None]
) -> dict[str, Any]:
    """The decays and widths of hidden layers. Raises `TypeError` or `ValueError`."""
    if isinstance(lam_hidden, str) or not isinstance(lam_hidden, Iterable):
        raise TypeError(f"lam_hidden must list the decay of each hidden layer, got {lam_hidden!r}")
    decays = tuple(hyperparameter("lam_hidden", decay) for decay in lam_hidden)
    for decay in decays:
        wanted = "positive and finite: without a decay no minimum may exist"
        require("lam_hidden", decay, lambda x: x > 0, wanted)
    if hidden_dims is not None and (
        isinstance(hidden_dims, str) or not isinstance(hidden_dims, Iterable)
    ):
        raise TypeError(f"hidden_dims must list the width of each layer, got {hidden_dims!r}")
    widths = [dim] * len(decays) if hidden_dims is None else list(hidden_dims)
    if len(widths) != len(decays):
        raise ValueError(
            f"hidden_dims needs one width for each of the {len(decays)} entries of lam_hidden, "
            f"got {len(widths)}"
        )
    if decays and any(confined is not None for confined in sets.values()):
        raise ValueError("lam_hidden is for factors under weight decay: leave out the other sets")
    dims = tuple(whole_number("hidden_dims", width) for width in widths)
    return {"lam_hidden": decays, "hidden_dims": dims}
