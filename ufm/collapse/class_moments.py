r"""Class means and the within-class scatter of features that come in batches and are not kept.

A batch with n' samples of class k and mean h̄'_k updates n samples with mean h̄_k, δ = h̄'_k − h̄_k:

    h̄_k ← h̄_k + n'/(n + n') δ,    S ← S + S' + Σ_k (n n'/(n + n')) δδᵀ,

where S = Σ_i (h_i − h̄_{y_i})(h_i − h̄_{y_i})ᵀ, and S' is taken about the batch's own means. Nothing
cancels, whatever offset the features have (Chan, Golub & LeVeque, 1983). Two sets of moments merge
in the same way. In float64, O(Kd + d²) numbers.

    >>> moments = ClassMoments(num_classes=2, dim=1)
    >>> moments.add(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]))
    >>> moments.means.ravel(), moments.scatter.item()
    (array([2., 5.]), 2.0)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from ufm.collapse.metrics import are_distinct


class ClassMoments:
    """n_k, h̄_k, Σ_{i∈k} ‖h_i − h̄_k‖², S, and the largest norm of a feature."""

    def __init__(self, num_classes: int, dim: int) -> None:
        self.counts = np.zeros(num_classes, np.int64)
        self.means = np.zeros((num_classes, dim))
        self.squares = np.zeros(num_classes)
        self.largest = 0.0
        self.scatter = np.zeros((dim, dim))

    @property
    def centre(self) -> Float[np.ndarray, " d"]:
        """The mean of all samples."""
        return self.counts / max(self.counts.sum(), 1) @ self.means

    @property
    def seen_means(self) -> Float[np.ndarray, "K d"]:
        """Class means as rows; NaN for a class without samples."""
        return np.where(self.counts[:, None] > 0, self.means, np.nan)

    def centred_means(self) -> tuple[Float[np.ndarray, "K d"], bool]:
        """h̄_k − h̄_G as rows, and whether they differ by more than rounding."""
        centred = self.seen_means - self.centre
        return centred, bool(are_distinct(centred.T, self.largest))

    def add(self, rows: Float[np.ndarray, "m d"], labels: Int[np.ndarray, " m"]) -> None:
        """Include m ≥ 1 samples."""
        counts = np.bincount(labels, minlength=len(self.means))
        sums = class_sums(rows, labels, np.ones(len(rows)), len(counts))
        means, seen = sums / np.maximum(counts, 1)[:, None], np.flatnonzero(counts)
        self.largest = max(self.largest, float(np.linalg.norm(rows, axis=1).max()))
        rows = rows - means[labels]
        squares = np.bincount(labels, np.einsum("ij,ij->i", rows, rows), len(counts))
        self.scatter += rows.T @ rows
        self._merge(seen, counts[seen], means[seen], squares[seen])

    def merge(self, other: "ClassMoments") -> None:
        """Include the samples of other moments."""
        seen = np.flatnonzero(other.counts)
        self.scatter += other.scatter
        self.largest = max(self.largest, other.largest)
        self._merge(seen, other.counts[seen], other.means[seen], other.squares[seen])

    def _merge(self, classes: Any, counts: Any, means: Any, squares: Any) -> None:
        before, gap = self.counts[classes], means - self.means[classes]
        total = before + counts
        shift = np.sqrt(before * (counts / total))[:, None] * gap
        self.counts[classes] = total
        self.means[classes] += (counts / total)[:, None] * gap
        self.squares[classes] += squares + np.einsum("ij,ij->i", shift, shift)
        self.scatter += shift.T @ shift

    def state(self) -> dict[str, np.ndarray]:
        """The moments as plain arrays of their own."""
        arrays = {"counts": self.counts, "means": self.means, "squares": self.squares}
        arrays |= {"scatter": self.scatter, "largest": np.asarray(self.largest)}
        return {name: array.copy() for name, array in arrays.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "ClassMoments":
        """The moments that `state` returned."""
        moments = cls(*np.shape(state["means"]))
        moments.counts[:] = state["counts"]
        moments.means[:], moments.squares[:] = state["means"], state["squares"]
        moments.scatter[:], moments.largest = state["scatter"], float(state["largest"])
        return moments


def class_sums(
    rows: Float[np.ndarray, "m p"],
    labels: Int[np.ndarray, " m"],
    weights: Float[np.ndarray, " m"],
    classes: int,
) -> Float[np.ndarray, "K p"]:
    """Σ_{i∈k} c_i x_i, without sorting the rows."""
    membership = scipy.sparse.csc_array(
        (weights, labels, np.arange(len(rows) + 1, dtype=np.int32)), shape=(classes, len(rows))
    )
    return membership @ rows
