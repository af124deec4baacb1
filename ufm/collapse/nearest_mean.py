"""NC4 over features that come in batches, once the class means are known.

NC4 is the share of samples that the classifier and the nearest class mean decide differently. The
means are those of all features, so that it takes a second pass over them.
"""

import numpy as np
from jaxtyping import Float

from ufm.collapse.class_moments import ClassMoments
from ufm.collapse.feature_batch import Batch
from ufm.collapse.metrics import decisions


class NearestMean:
    """Count decisions of a classifier that differ from the nearest class mean, batch by batch.

    Made by `CollapseTracker.nearest_mean`, with the means of that moment. Also takes features that
    the means do not include, such as those of test images.

        >>> tracker = CollapseTracker(num_classes=2, dim=1)
        >>> tracker.update([[-1.0], [-3.0], [2.0]], [0, 0, 1])
        >>> second = tracker.nearest_mean(W=[[-1.0], [1.0]], b=[0.0, 3.5])
        >>> second.update([[-1.0], [-3.0], [2.0]])
        >>> second.nc4  # the sample at −1 is nearer to −2 than to 2
        0.3333333333333333
    """

    def __init__(
        self, moments: ClassMoments, W: Float[np.ndarray, "K d"], b: Float[np.ndarray, " K"]
    ) -> None:
        centred, self._is_defined = moments.centred_means()
        self._centred, self._centre = centred.T, moments.centre
        self._W, self._b = W, b
        self._samples, self._differing, self._decided = 0, 0, False

    def update(self, features: object) -> None:
        """Count the decisions on a batch.

        Args:
            features: (m, d), one row for each sample; an array of NumPy, PyTorch or JAX.

        Raises:
            ValueError: The shape is another, or an entry is not a finite real number.
        """
        batch = Batch(features, len(self._centre))
        for rows, _ in batch.blocks():
            logits = self._W @ rows.T + self._b[:, None]
            decided, differ = decisions(logits, (rows - self._centre).T, self._centred)
            self._samples += len(rows)
            self._differing += int(np.sum(differ))
            self._decided |= bool(decided)

    def merge(self, other: "NearestMean") -> "NearestMean":
        """Include the counts of another one with the same means and classifier.

        Args:
            other: The counts over other samples, such as those of another process.

        Returns:
            This one.

        Raises:
            ValueError: Its means or its classifier are others.
        """
        for name in ("_centred", "_centre", "_W", "_b"):
            if not np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True):
                raise ValueError("other must have the same class means, W and b")
        self._samples += other._samples
        self._differing += other._differing
        self._decided |= other._decided
        return self

    @property
    def nc4(self) -> float:
        """The share of samples decided differently; NaN if no logits differ, or no means do."""
        if not (self._is_defined and self._decided):
            return float("nan")
        return self._differing / self._samples
