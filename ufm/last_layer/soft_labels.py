r"""Labels that are rows of K numbers: distillation, mixup, sets of labels.

Rows that are exactly one-hot are classes. Any others are targets, as they stand: rows that are
nearly one-hot, as after mixup, are not rounded. Equal rows are one group of samples.

>>> found = soft_labels(np.array([[0.9, 0.1], [0.0, 1.0], [0.9, 0.1]]), CrossEntropy())
>>> found.table, found.groups
(array([[0. , 1. ],
       [0.9, 0.1]]), array([1, 0, 1]))
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from ufm._support.host_arrays import check_real
from ufm.losses import Loss, against

#: How rows that are not one-hot are read.
Soft = Literal["targets", "argmax"]
#: Entries beyond 1 − this make a row look like a class that was smeared by rounding.
_NEARLY = 1e-3


class SoftLabels(NamedTuple):
    """The different rows, the row of each sample, and a note."""

    table: Float[np.ndarray, "m K"]
    groups: Int[np.ndarray, " N"]
    note: str


def is_soft(labels: Shaped[np.ndarray, "..."]) -> bool:
    """Whether labels are rows of numbers that are not one-hot."""
    if labels.ndim != 2 or min(labels.shape) < 2 or labels.dtype.kind not in "biuf":
        return False
    hot = labels == 1
    exact = bool(np.all(hot | (labels == 0)))
    return not (exact and any(np.all(hot.sum(axis=axis) == 1) for axis in (0, 1)))


def soft_labels(labels: Shaped[np.ndarray, "N K"], loss: Loss) -> SoftLabels:
    """Group the samples by their rows. Raises `ValueError` for rows that do not fit the loss."""
    check_real("labels", labels.dtype)
    rows = labels.astype(float) + 0.0  # without negative zeros
    try:
        against(loss, rows, len(rows))
    except ValueError as error:
        raise ValueError(str(error).replace("targets must", "labels must", 1)) from None
    table, groups = np.unique(rows, axis=0, return_inverse=True)
    near = int(np.sum((rows.max(axis=1) > 1.0 - _NEARLY) & (rows.max(axis=1) != 1.0)))
    some = f", {near} of them nearly one-hot and not rounded" if near else ""
    note = (
        f"labels of shape {labels.shape} are soft: each sample has the loss against its own row "
        f"({len(table)} different rows{some}) (`soft_labels`)"
    )
    return SoftLabels(table, groups.reshape(-1), note)


def largest_entries(labels: Shaped[np.ndarray, "N K"]) -> tuple[Int[np.ndarray, " N"], str]:
    """The class of the largest entry of each row. Raises `ValueError` for ties."""
    largest = labels == labels.max(axis=1, keepdims=True)
    tied = np.flatnonzero(largest.sum(axis=1) != 1)
    if len(tied):
        raise ValueError(
            f"labels have no single largest entry in row {tied[0]}, so that `soft_labels` argmax "
            "has no class for it"
        )
    note = (
        f"labels of shape {labels.shape} are soft: the class of the largest entry was taken, which "
        "is another problem than that of the rows (`soft_labels`)"
    )
    return np.argmax(labels, axis=1), note
