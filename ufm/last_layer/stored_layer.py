"""A trained last layer as it is stored: its features are shards on disk until they are needed.

`ufm.last_layer.read` converts it to a problem and a point of the model.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Shaped

from ufm.last_layer.arrays import Layout
from ufm.losses import Loss


@dataclasses.dataclass(frozen=True)
class StoredLayer:
    """A last layer in the model's normalisation, with features that have not been read.

    The M stored samples are the rows of `shards`, one after another, or their columns if `layout`
    is "columns". Shards may be memory-mapped, and have the dtype of the file. `labels` are 0..K-1,
    and -1 for samples that the loss ignored; the N others are the samples of the model.

    `W` (K, d), `b` (K,) or None and the decays are those of

        f = Σ_i c_i L(W h_i + b, y_i) / Σ_i c_i + λ_W/2 ‖W‖² + λ_H/2 Σ_i c_i ‖h_i‖² + λ_b/2 ‖b‖².

    c = `sample_weights` (M,), with mean 1 over the N samples; None stands for c = 1. Class weights
    are part of `loss`, which leaves the penalty of the features as it is. `lam_h` is None if it
    is to be inferred. `notes` say how the layer was read.
    """

    W: Float[np.ndarray, "K d"]
    b: Float[np.ndarray, " K"] | None
    shards: tuple[Shaped[np.ndarray, "_ _"], ...]
    layout: Layout
    labels: Int[np.ndarray, " M"]
    loss: Loss
    lam_w: float
    lam_h: float | None
    lam_b: float | None
    sample_weights: Float[np.ndarray, " M"] | None
    notes: tuple[str, ...]

    @property
    def class_counts(self) -> tuple[int, ...]:
        """n_1, …, n_K."""
        kept = self.labels[self.labels >= 0]
        return tuple(np.bincount(kept, minlength=len(self.W)).tolist())

    @property
    def order(self) -> Int[np.ndarray, " N"]:
        """The positions of the samples of class 1, then of class 2, …, in their stored order."""
        order = np.argsort(self.labels, kind="stable")
        return order[np.count_nonzero(self.labels < 0) :]

    def columns(self) -> Float[np.ndarray, "d N"]:
        """All features in double precision, ordered by class, in memory."""
        rows = [np.asarray(x if self.layout == "rows" else x.T, np.float64) for x in self.shards]
        return np.concatenate(rows)[self.order].T
