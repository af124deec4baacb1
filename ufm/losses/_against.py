"""Choose the loss against given targets, and check that they fit it."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.losses._base import Loss
from ufm.losses._class_weighted import ClassWeighted
from ufm.losses._margins import BinaryCrossEntropy
from ufm.losses._softmax import CrossEntropy, LabelSmoothing
from ufm.losses._squared import MSE
from ufm.losses._targets import (
    GroupedLoss,
    LogisticTargets,
    SoftmaxTargets,
    SquaredTargets,
    Table,
)
from ufm.losses._vector_scaling import VectorScaling

#: Rows whose sum differs from 1 by more than this are no distributions; softmax in float32 is.
_SUM = 1e-5


def against(loss: Loss, targets: Any, num_groups: int) -> Loss:
    """The loss against the rows of `targets` (m, K), for m groups of samples.

    A loss that has targets gets these instead. One-hot rows are labels, of any loss. Other rows
    need CE, LS, BCE, or MSE, whose rows may be any numbers. Raises `ValueError` or `TypeError`,
    naming `targets`, for rows that do not fit.
    """
    table, (loss, _) = _checked(targets, num_groups), loss.without_targets()
    if isinstance(loss, ClassWeighted):
        return ClassWeighted(against(loss.loss, table, num_groups), loss.weights)
    if np.all(np.sum(table != 0, axis=1) == 1) and np.all(np.max(table, axis=1) == 1):
        classes = tuple(map(int, np.argmax(table, axis=1)))
        as_labelled = classes == tuple(range(table.shape[1]))
        return loss if as_labelled else GroupedLoss(loss, classes, table.shape[1])
    return _against(loss, table)


def _checked(targets: Any, num_groups: int) -> Table:
    try:
        if np.iscomplexobj(targets):  # NumPy would drop their imaginary parts
            raise TypeError
        table = np.asarray(targets, float)
    except (TypeError, ValueError):
        raise TypeError(f"targets must be an array of numbers, got {targets!r}") from None
    if table.ndim != 2 or table.shape[0] != num_groups:
        raise ValueError(
            f"targets must have a row for each of the {num_groups} entries of class_counts, got "
            f"shape {table.shape}"
        )
    if table.shape[1] < 2:
        raise ValueError(
            f"targets must have at least 2 columns, one for each output, got {table.shape[1]}"
        )
    if not np.all(np.isfinite(table)):
        raise ValueError(f"targets must be finite: row {_first(~np.isfinite(table))} is not")
    return table


def _first(wrong: Any) -> int:
    """The first row with an entry that is wrong."""
    return int(np.argmax(np.any(np.reshape(wrong, (len(wrong), -1)), axis=1)))


def _require_rows(holds: Any, what: str, table: Table) -> None:
    if not np.all(holds):
        row = _first(~np.asarray(holds))
        shown = np.array2string(table[row], precision=4, threshold=8)
        raise ValueError(f"targets must be {what}, but row {row} is {shown}")


@functools.singledispatch
def _against(loss: Loss, table: Table) -> Loss:
    raise ValueError(
        f"{loss.label()} takes one-hot targets only: use CE, LS, BCE or MSE for soft targets, or a "
        "group of samples for each class of one-hot rows"
    )


@_against.register
def _(loss: CrossEntropy, table: Table) -> Loss:
    return SoftmaxTargets(_for_softmax(table))


@_against.register
def _(loss: LabelSmoothing, table: Table) -> Loss:
    return SoftmaxTargets(_for_softmax(table), loss.alpha)


@_against.register
def _(loss: BinaryCrossEntropy, table: Table) -> Loss:
    within = np.all((table >= 0) & (table <= 1), axis=1)
    _require_rows(within, "between 0 and 1 for BCE", table)
    return LogisticTargets(_device(table))


@_against.register
def _(loss: MSE, table: Table) -> Loss:
    if not (loss.scale == 1.0 and loss.target == 1.0):
        raise ValueError(
            f"{loss.label()} is for one-hot targets: with other targets use MSE() and scale the "
            "targets"
        )
    largest = 1e-4 * float(jnp.finfo(jnp.result_type(float)).max) ** 0.5
    what = f"at most {largest:.0e} in size for MSE, whose squares overflow"
    _require_rows(np.all(np.abs(table) <= largest, axis=1), what, table)
    return SquaredTargets(_device(table))


@_against.register
def _(loss: VectorScaling, table: Table) -> Loss:
    if np.any(np.asarray(loss.margin) != 0):
        raise ValueError("the margin of VectorScaling belongs to a label: it needs one-hot targets")
    return VectorScaling(loss.scale, loss.shift, 0.0, _against(loss.loss, table))


def _for_softmax(table: Table) -> Float[Array, "m K"]:
    """Distributions, or indicators of sets of labels."""
    _require_rows(np.any(table != 0, axis=1), "given for every group", table)
    soft = np.all(table >= 0, axis=1) & (np.abs(np.sum(table, axis=1) - 1.0) <= _SUM)
    indicator = np.all((table == 0) | (table == 1), axis=1)
    what = "distributions (non-negative with sum 1) or 0/1 indicators of labels for CE and LS"
    _require_rows(soft | indicator, what, table)
    return _device(table)


def _device(table: Table) -> Float[Array, "m K"]:
    return jnp.array(table, jnp.result_type(float))  # a copy: the table may be the caller's
