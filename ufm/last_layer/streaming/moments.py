r"""The first pass: class sums of the features and their square, in double precision.

n_k = Σ_{i∈k} c_i,    h̄_k = (1/n_k) Σ_{i∈k} c_i h_i,    ‖H‖² = Σ_i c_i ‖h_i‖²
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.collapse.class_moments import class_sums
from ufm.last_layer.streaming.passes import OnRows, Samples, Total, block_rows, summed


class Moments(NamedTuple):
    """Class sizes and means, ‖H‖², its sum of absolute terms, and a bound on ‖h_i‖."""

    sizes: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K d"]
    square: float
    terms: float
    largest: float

    @property
    def mean(self) -> Float[np.ndarray, " d"]:
        """The mean of all features."""
        return self.sizes @ self.means / self.sizes.sum()

    def centred(self) -> "Moments":
        """The moments of the features minus their mean."""
        mean = self.mean
        moved = float(self.sizes.sum() * (mean @ mean))
        largest = self.largest + float(np.linalg.norm(mean))
        square = max(self.square - moved, 0.0)
        return Moments(self.sizes, self.means - mean, square, self.terms + moved, largest)


def moments(samples: Samples, classes: int, on_rows: OnRows | None = None) -> Moments:
    """Compute the moments in one pass.

    Raises `ValueError` for features that are not finite, or whose squares overflow.
    """
    dim = samples.features.dim
    size = block_rows(classes, dim, len(samples.features))

    def terms(
        buffer: np.ndarray, start: int, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> Total:
        if rows.dtype != buffer.dtype:
            np.copyto(buffer[: len(rows)], rows)
            rows = buffer[: len(rows)]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.vecdot(rows, rows)
        bad = np.flatnonzero(~np.isfinite(squares))
        if len(bad):
            raise ValueError(
                f"H has entries that are NaN, infinite or above 1e150, the first in sample "
                f"{start + bad[0]}: a certificate needs finite numbers"
            )
        sums = class_sums(rows, labels, weights, classes), weights @ squares
        return Total((np.bincount(labels, weights, classes), *sums), (np.max(squares),))

    def begin() -> Callable[..., Total]:
        return functools.partial(terms, np.empty((size, dim)))

    (sizes, sums, square), (peak,) = summed(samples, size, begin, on_rows)
    square = float(square)
    return Moments(sizes, sums / sizes[:, None], square, square, float(np.sqrt(peak)))
