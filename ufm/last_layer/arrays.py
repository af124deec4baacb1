r"""Read the arrays of a trained last layer, as stored by any framework.

    W       (K, d), one row for each class, as torch.nn.Linear.weight; or (d, K), one column for
            each class, as the kernel of a Dense layer in Flax and Keras
    H       (N, d), one row for each sample; or (d, N)
    labels  (N,); (N, 1), as Keras loads them; or one-hot, (N, K) or (K, N)

H and the number of labels N determine the layout of W unless W is square: {d, N} are the lengths of
H, and only one length of W is d. They determine the layout of H unless N = d.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ufm._support.host_arrays import check_real

Layout = Literal["rows", "columns"]

Shape = tuple[int, ...]


def finite(name: str, array: np.ndarray) -> np.ndarray:
    """Convert to double precision. Raises `ValueError` unless all entries are finite numbers."""
    check_real(name, array.dtype)
    numbers = np.asarray(array, np.float64)
    check_finite(name, numbers)
    return numbers


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


def layouts(
    W: Shape,
    shards: Sequence[Shape],
    samples: int,
    classifier: Layout | None,
    features: Layout | None,
) -> tuple[Layout, Layout]:
    """Infer the layouts of W and H from the shape of W, those of H's shards, and the labels.

    Given layouts are not inferred. A square W is taken as rows, as documented. Raises `ValueError`
    if shapes do not fit each other, and if N = d leaves the layout of H open.
    """
    if len(W) != 2 or 0 in W:
        raise ValueError(f"W must be K x d with at least 2 classes and 1 feature, got shape {W}")
    for shape in shards:
        if len(shape) != 2:
            hint = f": flatten it, H.reshape({shape[0]}, -1)" if len(shape) > 2 else ""
            raise ValueError(f"H must be a matrix, N x d or d x N, got shape {shape}{hint}")
    joined: dict[Layout, Shape | None] = {"columns": _joined(shards, 1), "rows": _joined(shards, 0)}

    dims: dict[Layout, int] = {"rows": W[1], "columns": W[0]}
    fitting: list[tuple[Layout, Layout]] = [
        (w, h)
        for w, dim in dims.items()
        for h, shape in _feature_shapes(dim, samples).items()
        if classifier in (None, w) and shape == joined[h]
    ]
    got = " and ".join(dict.fromkeys(map(str, filter(None, joined.values()))))
    if not fitting:
        read = classifier or "rows"
        shapes = _feature_shapes(dims[read], samples)
        raise ValueError(
            f"H must have shape {shapes['columns']} by columns or {shapes['rows']} by rows for W "
            f"with {dims[read]} {'columns' if read == 'rows' else 'rows'} and {samples} labels, "
            f"got {got}"
        )
    told = [pair for pair in fitting if features in (None, pair[1])]
    if not told:
        stored = " or ".join(dict.fromkeys(h for _, h in fitting))
        raise ValueError(
            f"H has shape {got}, which is not stored by {features}: with {samples} labels and W of "
            f"shape {W} it is stored by {stored}"
        )
    if len({h for _, h in told}) > 1:
        raise ValueError(
            f"H is {samples} x {samples}, as many samples as features: say how it is stored with "
            "`features` rows (N x d, as PyTorch does) or `features` columns (d x N)"
        )
    return told[0]


def _joined(shards: Sequence[Shape], axis: int) -> Shape | None:
    """The shape of matrices joined along an axis; None unless the other lengths are equal."""
    others = {shape[1 - axis] for shape in shards}
    if len(others) != 1:
        return None
    lengths = (sum(shape[axis] for shape in shards), others.pop())
    return lengths if axis == 0 else lengths[::-1]


def _feature_shapes(dim: int, samples: int) -> dict[Layout, tuple[int, int]]:
    return {"columns": (dim, samples), "rows": (samples, dim)}
