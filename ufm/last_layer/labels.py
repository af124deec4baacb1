"""Read the labels of samples: numbers from 0 or from 1, one-hot rows, or names of classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

#: What torch.nn.CrossEntropyLoss leaves out by default.
_IGNORED = -100
#: The convention for pixels that are not labelled.
_PIXEL = 255


def flat_labels(labels: np.ndarray) -> tuple[Shaped[np.ndarray, " M"], list[str]]:
    """Convert labels to M numbers or names, with a note if they were stored otherwise.

    Raises `ValueError` unless there is a number, a name or a one-hot row for each sample.
    """
    y, notes = labels, []
    if y.dtype.kind == "O" and y.size and all(isinstance(name, str) for name in y.flat):
        y = y.astype(str)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    named = y.dtype.kind == "U"
    numbers = y.dtype.kind in "biuf" and bool(np.all(np.isfinite(y)) and np.all(y == np.floor(y)))
    if not named and not numbers:
        raise ValueError(
            f"labels must be whole numbers 0..K-1, got shape {y.shape} and dtype {y.dtype}"
        )
    if y.ndim > 1 and y.size == max(y.shape):
        notes.append(f"labels of shape {y.shape} are read as {y.size} labels")
        y = y.reshape(-1)
    elif y.ndim == 2 and not named:
        axis = _class_axis(y)
        notes.append(f"labels of shape {y.shape} are one-hot: the class of each sample was taken")
        y = np.argmax(y, axis=axis)
    if y.ndim != 1:
        raise ValueError(
            f"labels must be a list of N whole numbers, the class of each sample, got shape "
            f"{y.shape}"
        )
    return y, notes


def _class_axis(y: np.ndarray) -> int:
    """The class axis of a one-hot matrix."""
    hot = y == 1
    if np.all(hot | (y == 0)):
        by_rows, by_columns = (bool(np.all(hot.sum(axis=axis) == 1)) for axis in (1, 0))
        if by_rows != by_columns:
            return 1 if by_rows else 0
        if by_rows:
            raise ValueError(
                f"labels of shape {y.shape} are one-hot by rows and by columns: save the class of "
                "each sample, labels.argmax(axis=1) where a row is a sample"
            )
    raise ValueError(
        f"labels must be a list of N whole numbers, the class of each sample, got shape {y.shape}, "
        "which is not one-hot"
    )


def class_numbers(
    y: Shaped[np.ndarray, " M"],
    classes: int,
    ignore_index: int | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[Int[np.ndarray, " M"], list[str]]:
    """Number the labels 0..K-1, with -1 for the samples that the loss ignored, and say how.

    Args:
        y: Numbers or names, from `flat_labels`.
        classes: K, the number of classes of W.
        ignore_index: The label of samples that the loss left out; None: -100.
        first_label: The label of the first class, 0 or 1; None: 1 if the labels are 1..K, else 0.
        class_names: The names of the classes in the order of W; None: sorted.

    Returns:
        The numbers, and a note on each conversion.

    Raises:
        ValueError: A label is not one of K classes, a class has no sample, or numbers have names.
    """
    notes = []
    if y.dtype.kind == "U":
        y, said = _numbers_of_names(y, classes, class_names)
        notes.append(said)
    elif class_names is not None:
        raise ValueError("labels are whole numbers, not names: leave `class_names` out")
    ignored = y == (_IGNORED if ignore_index is None else ignore_index)
    if np.any(ignored):
        label = y[ignored][0]
        notes.append(
            f"{np.count_nonzero(ignored)} of {len(y)} samples have the label {int(label)}, which "
            "losses ignore: they were left out (`ignore_index`)"
        )
    kept = y[~ignored]
    if len(y) and not len(kept):
        raise ValueError(
            f"all {len(y)} samples have the label {int(y[0])}, which losses ignore: give labels of "
            "classes, or another `ignore_index`"
        )
    if first_label is None:
        first_label = 1 if len(kept) and kept.min() == 1 and kept.max() == classes else 0
        if first_label:
            notes.append(f"labels 1..{classes} are read as 0..{classes - 1} (`first_label`)")
    elif first_label not in (0, 1):
        raise ValueError(f"first_label must be 0 or 1, got {first_label}")
    numbers = np.where(ignored, -1, y.astype(np.int64) - first_label)
    _check_numbers(y, numbers, ignored, classes, first_label)
    return numbers, notes


def _numbers_of_names(
    names: np.ndarray, classes: int, given: Sequence[str] | None
) -> tuple[np.ndarray, str]:
    found = np.unique(names)
    if given is None:
        try:
            said = "labels are texts of whole numbers, and read as these (`class_names`)"
            return names.astype(np.int64), said
        except ValueError:
            pass
    order = found if given is None else np.asarray(list(given), dtype=str)
    if len(order) != classes or len(set(order)) != classes:
        raise ValueError(
            f"labels are {len(order)} names ({_some(order)}), and W has {classes} classes: give "
            "`class_names` in the order of W"
        )
    unknown = np.setdiff1d(found, order)
    if len(unknown):
        raise ValueError(f"labels have {_some(unknown)}, which `class_names` has not: add it")
    places = np.argsort(order)
    numbers = places[np.searchsorted(order, names, sorter=places)]
    how = "in sorted order" if given is None else "in the given order"
    return numbers, f"labels are names: class 0, 1, ... is {_some(order)}, {how} (`class_names`)"


def _some(names: np.ndarray) -> str:
    return ", ".join(names[:5].tolist()) + (", ..." if len(names) > 5 else "")


def _check_numbers(
    y: np.ndarray, numbers: np.ndarray, ignored: np.ndarray, classes: int, first: int
) -> None:
    """Raise `ValueError` unless all numbers but the ignored are 0..K-1, each at least once."""
    outside = np.flatnonzero(~ignored & ((numbers < 0) | (numbers >= classes)))
    if len(outside):
        i, found = outside[0], np.unique(y[outside])
        inside = np.unique(numbers[(numbers >= 0) & (numbers < classes)])
        remedy = ""
        if len(found) == 1 and (found[0] == _PIXEL or (found[0] < 0 and len(inside) == classes)):
            remedy = (
                f": if the loss ignored these {len(outside)} of {len(y)} samples, give "
                f"`ignore_index` {int(found[0])}"
            )
        elif classes == 2 and np.array_equal(np.unique(y), [-1, 1]):
            remedy = ": save (labels + 1) // 2"
        elif first == 0 and y.min() == 1 and y.max() == classes:
            remedy = ": give `first_label` 1"
        raise ValueError(
            f"labels must lie in {first}..{classes - 1 + first} (W has {classes} classes), got "
            f"{int(y[i])} at sample {i}{remedy}"
        )
    missing = np.flatnonzero(np.bincount(numbers[~ignored], minlength=classes) == 0)
    if len(missing):
        shown = ", ".join(str(k) for k in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"labels has no sample of class {shown}: every one of the {classes} classes of W needs "
            "samples; add some (W without a class is a different classifier)"
        )
