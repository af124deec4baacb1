"""Neural collapse of features that come in batches, as in a training loop.

What is measured, and by which formulas, is in `ufm.collapse.streamed_metrics`.

    >>> tracker = CollapseTracker(num_classes=2, dim=2)
    >>> for features, labels in ([[1.0, 0.1], [-1.0, 0.1]], [0, 1]), ([[1.0, -0.1]], [0]):
    ...     tracker.update(features, labels)
    >>> tracker
    CollapseTracker(num_classes=2, dim=2), 3 samples
    >>> tracker.compute(W=[[1.0, 0.0], [-1.0, 0.0]]).mean_norm_spread.__round__(4)
    0.3333
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ufm._support.host_arrays import host, real
from ufm._support.pytree import whole_number
from ufm.collapse.class_moments import ClassMoments
from ufm.collapse.feature_batch import Batch
from ufm.collapse.nearest_mean import NearestMean
from ufm.collapse.streamed_metrics import CollapseMetrics, measure


class CollapseTracker:
    """Measure neural collapse from batches of features, none of which is kept.

    Memory is O(Kd + d² + K²) and a block of rows, whatever the number of samples. Computed by NumPy
    in float64: for float32 features, a common offset a thousand times their spread costs no digits.
    Features above 1e150 overflow.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        """Start without samples.

        Args:
            num_classes: K ≥ 2.
            dim: d ≥ 1, the number of features of a sample.

        Raises:
            ValueError: A number is not whole or too small.
        """
        self.num_classes = whole_number("num_classes", num_classes, 2)
        self.dim = whole_number("dim", dim)
        # Rows that wait to be summed at once: a sum costs as much as K more rows, and as d.
        self._most_waiting = max(1024, 4 * self.num_classes, self.dim)
        self.reset()

    def __repr__(self) -> str:
        sizes = f"num_classes={self.num_classes}, dim={self.dim}"
        return f"CollapseTracker({sizes}), {self.counts.sum()} samples"

    @property
    def counts(self) -> Int[np.ndarray, " K"]:
        """Samples of each class."""
        return self._moments.counts.copy()

    @property
    def means(self) -> Float[np.ndarray, "K d"]:
        """Class means h̄_k as rows; NaN for a class without samples."""
        return self._moments.seen_means

    def reset(self) -> None:
        """Forget all samples, as before an epoch."""
        self._summed, self._waiting = ClassMoments(self.num_classes, self.dim), []
        self._outside_count, self._outside_mean = 0, np.zeros(self.dim)

    @property
    def _moments(self) -> ClassMoments:
        """The moments of all samples."""
        if self._waiting:
            rows, labels = map(np.concatenate, zip(*self._waiting, strict=True))
            self._waiting = []
            self._summed.add(rows, labels)
        return self._summed

    def update(self, features: Any, labels: Any) -> None:
        """Include a batch. A batch that is refused changes nothing.

        Args:
            features: (m, d), one row for each sample; an array of NumPy, PyTorch (on any device),
                JAX, or another library with `__array__` or DLPack, in any floating type.
            labels: (m,), integers 0..K−1.

        Raises:
            ValueError: A shape does not fit, an entry is not finite, or a label is not in 0..K−1.
        """
        for rows, classes in Batch(features, self.dim, labels, self.num_classes).blocks():
            self._waiting.append((rows, classes))
            if sum(len(waiting) for waiting, _ in self._waiting) >= self._most_waiting:
                _ = self._moments

    def update_out_of_distribution(self, features: Any) -> None:
        """Include a batch of features of other data, for NC5.

        Args:
            features: (m, d), as in `update`.

        Raises:
            ValueError: The shape does not fit, or an entry is not finite.
        """
        for rows, _ in Batch(features, self.dim).blocks():
            self._merge_outside(len(rows), rows.mean(axis=0))

    def _merge_outside(self, count: int, mean: np.ndarray) -> None:
        self._outside_count += count
        self._outside_mean += (mean - self._outside_mean) * (count / max(self._outside_count, 1))

    def compute(self, W: Any = None, b: Any = None) -> CollapseMetrics:
        """Measure all samples so far. Does not end the pass: updates may follow.

        Args:
            W: The classifier, (K, d), as `torch.nn.Linear.weight`; None leaves out its metrics.
            b: Its bias, (K,); None for a classifier without bias.

        Returns:
            The metrics. Those of class means are NaN while a class has no samples.

        Raises:
            ValueError: The shape of W or b does not fit.
        """
        outside = self._outside_mean if self._outside_count else np.full(self.dim, np.nan)
        return measure(self._moments, *self._classifier(W, b), outside)

    def nearest_mean(self, W: Any, b: Any = None) -> NearestMean:
        """Begin a second pass, which measures NC4.

        Args:
            W: The classifier, (K, d).
            b: Its bias, (K,), or None.

        Returns:
            A counter of decisions, with the class means of this moment. Give it the same features.

        Raises:
            ValueError: The shape of W or b does not fit.
        """
        if W is None:
            raise ValueError("W must be given: NC4 compares its decisions with the nearest mean")
        return NearestMean(self._moments, *self._classifier(W, b))

    def _classifier(self, W: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
        if W is None and b is not None:
            raise ValueError("b needs the W that it belongs to")
        given = {"W": (W, (self.num_classes, self.dim)), "b": (b, (self.num_classes,))}
        arrays = []
        for name, (array, shape) in given.items():
            arrays.append(np.zeros(shape) if array is None else real(name, host(array)))
            if (found := arrays[-1].shape) != shape:
                remedy = ": transpose it" if found == shape[::-1] and len(shape) == 2 else ""
                raise ValueError(f"{name} must have shape {shape}, got {found}{remedy}")
        return arrays[0], arrays[1]

    def merge(self, other: "CollapseTracker") -> "CollapseTracker":
        """Include the samples of another tracker, which stays as it is.

        Args:
            other: A tracker of the same K and d, such as that of another process.

        Returns:
            This tracker.

        Raises:
            ValueError: Its K or d is another.
        """
        mine, its = (self.num_classes, self.dim), (other.num_classes, other.dim)
        if mine != its:
            raise ValueError(f"other must have num_classes, dim = {mine}, got {its}")
        self._moments.merge(other._moments)
        self._merge_outside(other._outside_count, other._outside_mean)
        return self

    def state(self) -> dict[str, np.ndarray]:
        """Everything the tracker holds, to send to another process or to save.

        Returns:
            Plain arrays by name, for `numpy.savez`, pickle or `torch.distributed`.
        """
        outside = {
            "outside_count": np.asarray(self._outside_count),
            "outside_mean": self._outside_mean.copy(),
        }
        return self._moments.state() | outside

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "CollapseTracker":
        """Make the tracker whose `state` this is.

        Args:
            state: What `state` returned, or a file of it opened by `numpy.load`.

        Returns:
            A tracker of its own arrays.

        Raises:
            ValueError: An array is missing, or its shape does not fit.
        """
        lacking = [name for name in cls(2, 1).state() if name not in state]
        if lacking:
            raise ValueError(f"state must be what CollapseTracker.state returned, lacks {lacking}")
        shape = np.shape(state["means"])
        tracker = cls(*shape) if len(shape) == 2 else cls(2, 1)
        for name, array in tracker.state().items():
            if np.shape(state[name]) != array.shape:
                raise ValueError(
                    f"state[{name!r}] must have shape {array.shape} beside means of shape {shape}, "
                    f"got {np.shape(state[name])}"
                )
        tracker._summed = ClassMoments.from_state(state)
        tracker._merge_outside(int(state["outside_count"]), np.asarray(state["outside_mean"]))
        return tracker
