r"""Read the arrays of a trained last layer, as stored by any framework.

    W       (K, d), one row for each class, as torch.nn.Linear.weight; or (d, K), one column for
            each class, as the kernel of a Dense layer in Flax and Keras
    H       (N, d), one row for each sample; or (d, N)
    labels  (N,); (N, 1), as Keras loads them; or one-hot, (N, K) or (K, N)

H and the number of labels N determine the layout of W unless W is square: {d, N} are the lengths of
H, and only one length of W is d. They determine the layout of H unless N = d.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

Layout = Literal["rows", "columns"]

#: Labels of samples that losses ignore: the default of PyTorch, and the convention for pixels.
_IGNORED = (-100, 255)


#: With larger entries a sum of squares overflows.
_LARGEST = 1e150


def check_finite(name: str, array: np.ndarray) -> None:
    """Raise `ValueError` for NaN and infinity, naming the first entry, and for enormous entries."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ", ".join(str(i) for i in bad[0])
        raise ValueError(
            f"{name} has {len(bad)} of {array.size} entries NaN or infinite, the first at "
            f"[{where}]: a certificate needs finite numbers"
        )
    if np.max(np.abs(array), initial=0.0) > _LARGEST:
        raise ValueError(f"{name} has entries above {_LARGEST:g}, whose squares overflow: rescale")


# Labels --------------------------------------------------------------------------------------


def flat_labels(labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Convert labels to N numbers, with a note if they were stored otherwise.

    Raises `ValueError` unless there is one whole number, or one-hot row, for each sample.
    """
    y, notes = labels, []
    if y.dtype.kind not in "biuf" or not np.all(np.isfinite(y)) or np.any(y != np.floor(y)):
        soft = y.dtype.kind == "f" and y.ndim == 2
        hint = (
            ": soft labels define a different problem, which is not certified here" if soft else ""
        )
        raise ValueError(
            f"labels must be whole numbers 0..K-1, got shape {y.shape} and dtype {y.dtype}{hint}"
        )
    if y.ndim > 1 and y.size == max(y.shape):
        notes.append(f"labels of shape {y.shape} are read as {y.size} numbers")
        y = y.reshape(-1)
    elif y.ndim == 2:
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
        "which is not one-hot: several labels per sample define a different problem, "
        "which is not certified here"
    )


def check_labels(y: np.ndarray, classes: int) -> np.ndarray:
    """Convert labels to int64. Raises `ValueError` unless they are 0..K-1, each at least once."""
    inside = (y >= 0) & (y < classes)
    outside = np.flatnonzero(~inside)
    if len(outside):
        i = outside[0]
        found = np.unique(y[outside])
        remedy = ""
        all_classes = len(np.unique(y[inside])) == classes
        if len(found) == 1 and (y[i] in _IGNORED or (y[i] < 0 and all_classes)):
            remedy = (
                f": if the loss ignored them, drop these {len(outside)} of {len(y)} samples from "
                f"labels and features, keep = labels != {int(y[i])}"
            )
        elif classes == 2 and np.array_equal(np.unique(y), [-1, 1]):
            remedy = ": save (labels + 1) // 2"
        elif y.min() == 1 and y.max() == classes:
            remedy = ": subtract 1"
        raise ValueError(
            f"labels must lie in 0..{classes - 1} (W has {classes} classes), got {int(y[i])} at "
            f"sample {i}{remedy}"
        )
    y = y.astype(np.int64)
    missing = np.flatnonzero(np.bincount(y, minlength=classes) == 0)
    if len(missing):
        shown = ", ".join(str(k) for k in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"labels has no sample of class {shown}: every one of the {classes} classes of W needs "
            "samples; add some (W without a class is a different classifier)"
        )
    return y


# Layouts of W and H --------------------------------------------------------------------------


def layouts(
    W: tuple[int, ...],
    H: tuple[int, ...],
    samples: int,
    classifier: Layout | None,
    features: Layout | None,
) -> tuple[Layout, Layout]:
    """Infer the layouts of W and H from their shapes and the number of labels.

    Given layouts are not inferred. A square W is taken as rows, as documented. Raises `ValueError`
    if shapes do not fit each other, and if N = d leaves the layout of H open.
    """
    for name, given in (("classifier", classifier), ("features", features)):
        if given not in (None, "rows", "columns"):
            raise ValueError(f"{name} must be 'rows' or 'columns', got {given!r}")
    if len(W) != 2 or 0 in W:
        raise ValueError(f"W must be K x d with at least 2 classes and 1 feature, got shape {W}")
    if len(H) != 2:
        hint = f": flatten it, H.reshape({H[0]}, -1)" if len(H) > 2 else ""
        raise ValueError(f"H must be a matrix, N x d or d x N, got shape {H}{hint}")

    dims: dict[Layout, int] = {"rows": W[1], "columns": W[0]}
    fitting: list[tuple[Layout, Layout]] = [
        (w, h)
        for w, dim in dims.items()
        for h, shape in _feature_shapes(dim, samples).items()
        if classifier in (None, w) and shape == H
    ]
    if not fitting:
        read = classifier or "rows"
        shapes = _feature_shapes(dims[read], samples)
        raise ValueError(
            f"H must have shape {shapes['columns']} by columns or {shapes['rows']} by rows for W "
            f"with {dims[read]} {'columns' if read == 'rows' else 'rows'} and {samples} labels, "
            f"got {H}"
        )
    told = [pair for pair in fitting if features in (None, pair[1])]
    if not told:
        stored = " or ".join(dict.fromkeys(h for _, h in fitting))
        raise ValueError(
            f"H has shape {H}, which is not stored by {features}: with {samples} labels and W of "
            f"shape {W} it is stored by {stored}"
        )
    if len({h for _, h in told}) > 1:
        raise ValueError(
            f"H is {samples} x {samples}, as many samples as features: say how it is stored with "
            "`features` rows (N x d, as PyTorch does) or `features` columns (d x N)"
        )
    return told[0]


def _feature_shapes(dim: int, samples: int) -> dict[Layout, tuple[int, int]]:
    return {"columns": (dim, samples), "rows": (samples, dim)}


# Other arrays in the file --------------------------------------------------------------------

_WEIGHTED = (
    "a loss with weights defines a different problem, which is not certified here; save the file "
    "without it only if training did not use it"
)
_SCALED = (
    "scaled logits belong to a different W; if they were W H / T + b, save W / T as W and T^2 "
    "lam_w as lam_w, which is the same problem, and leave it out"
)
_SHIFTED = (
    "a shift of the logits in the loss defines a different problem, which is not certified here; "
    "save the file without it only if training did not use it"
)
_SMOOTHED = (
    "if it is a parameter of the loss, it belongs in loss, as in 'ls:0.1' or 'fl:2'; leave it out"
)
_MASKED = "drop the samples that the loss did not see from labels and H, and leave it out"

#: Arrays that make the layer a point of a different problem, by their name or a part of it.
_BY_PART = {
    **dict.fromkeys(("weight", "freq"), _WEIGHTED),
    **dict.fromkeys(("temperature", "logitscale"), _SCALED),
    **dict.fromkeys(("logitadjust", "logitbias", "logitshift", "margin"), _SHIFTED),
    "smoothing": _SMOOTHED,
}
_BY_NAME = {
    **dict.fromkeys(("cw", "importance", "reduction"), _WEIGHTED),
    **dict.fromkeys(("t", "tau", "temp", "s", "scale"), _SCALED),
    **dict.fromkeys(("m", "prior", "logprior", "classprior"), _SHIFTED),
    **dict.fromkeys(("gamma", "alpha", "ls", "smooth", "eps", "epsilon", "mixup"), _SMOOTHED),
    "mask": _MASKED,
}
#: Other names of arrays that are read.
_ALIASES = {
    **{"kernel": "W", "weight": "W", "features": "H", "bias": "b", "biases": "b"},
    **{"weightdecay": "lam_w", "wd": "lam_w", "lambw": "lam_w", "lambh": "lam_h", "lambb": "lam_b"},
    **{"lambdaw": "lam_w", "lambdah": "lam_h", "lambdab": "lam_b"},
}


def check_beside(
    path: Any, others: Iterable[str], known: Iterable[str], present: Iterable[str]
) -> None:
    """Raise `ValueError` if an additional array makes the layer a point of a different problem.

    `others` are names in the file that are not read, `known` names that can be read, and `present`
    those of them that the file has.
    """
    spelt = {_flat(name): name for name in known} | _ALIASES
    for name in others:
        flat = _flat(name)
        meant = spelt.get(flat)
        if meant is not None and meant not in present:
            raise ValueError(f"{path} has {name}, which is not read: save it as {meant}")
        if meant is not None and meant.startswith("lam_"):
            continue
        found = _BY_NAME.get(flat) or next((x for part, x in _BY_PART.items() if part in flat), "")
        if found:
            raise ValueError(f"{path} has {name} beside the layer: {found}")


def _flat(name: str) -> str:
    """Reduce a name to lower-case letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
