"""Targets in a file: an .npz with `targets` (m, K), and perhaps `class_counts` (m,)."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ufm._support.npz import read_arrays


def read_targets(path: Path) -> tuple[Shaped[np.ndarray, "m K"], tuple[int, ...] | None]:
    """Read the targets, a row for each group of samples, and the sizes of the groups if given.

    Raises `ValueError`, naming the file, if it is unreadable or lacks targets.
    """
    found, others = read_arrays(path, ("targets", "class_counts"), ("targets",))
    if "targets" not in found:
        raise ValueError(
            f"{path} has no array named targets, with a row for each group of samples; it has "
            f"{', '.join(others) or 'none'}: save it with numpy.savez(file, targets=Y)"
        )
    targets, counts = found["targets"], found.get("class_counts")
    if targets.ndim != 2 or targets.dtype.kind not in "biuf":
        raise ValueError(
            f"`targets` in {path} must be a matrix of numbers, got {targets.dtype} of shape "
            f"{targets.shape}"
        )
    if counts is None:
        return targets, None
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise ValueError(f"`class_counts` in {path} must be whole numbers, one for each group")
    return targets, tuple(counts.tolist())
