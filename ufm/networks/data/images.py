r"""Images of balanced classes, standardised and sorted by class, as the model requires.

    x ← (x − mean_c) / deviation_c,   mean and deviation of channel c over the training images only.

Every class has the same number of training images, since the symmetric theory needs balanced
classes. They are sorted by class. Within a class they are in random order, so that the first ones
are a random sample. All test images are used.

    >>> data = load_data("digits", per_class=50)
    >>> data.images.shape, data.num_classes
    ((500, 8, 8, 1), 10)
"""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Float32, Int32

from ufm.networks.data.sources import RawImages, read_source


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Standardised images and their labels 0, …, K−1; training images sorted by class.

    `mean` and `deviation` (one number per channel) are the numbers of the standardisation.
    `notes` are sentences on how the source was read.
    """

    name: str
    images: Float32[np.ndarray, "N h w c"]
    labels: Int32[np.ndarray, " N"]
    test_images: Float32[np.ndarray, "M h w c"]
    test_labels: Int32[np.ndarray, " M"]
    mean: Float32[np.ndarray, " c"]
    deviation: Float32[np.ndarray, " c"]
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.labels[-1]) + 1

    @property
    def per_class(self) -> int:
        """n, the number of training images in each class."""
        return len(self.labels) // self.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c)."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def fingerprint(self) -> str:
        """Hash of all data that training and testing use."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.test_images, self.test_labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_data(source: str = "digits", per_class: int | None = None, seed: int = 0) -> ImageData:
    """Read a source and choose `per_class` training images of each class.

    The sources are those of `ufm.networks.data.sources`. The seed chooses the images. `None`
    takes as many as the smallest class has. Raises `ValueError`, in one line that names the array
    or the option, for unsuitable data.
    """
    return prepare(source, read_source(source), per_class, seed)


def prepare(name: str, raw: RawImages, per_class: int | None, seed: int) -> ImageData:
    """Check, choose, sort and standardise. Raises `ValueError` like `load_data`."""
    images = _checked_images("images", raw.images)
    labels = _checked_labels("labels", raw.labels, len(images))
    test_images = _checked_images("test_images", raw.test_images)
    test_labels = _checked_labels("test_labels", raw.test_labels, len(test_images))
    if images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"test_images are of shape {test_images.shape[1:]} and images of {images.shape[1:]}: "
            "they must agree"
        )
    counts = _class_counts(labels)
    outside = np.setdiff1d(test_labels, np.arange(len(counts)))
    if len(outside):
        raise ValueError(f"test_labels has class {outside[0]}, which labels does not: remove it")
    chosen = _balanced(labels, counts, per_class, seed)
    images, labels = images[chosen], labels[chosen]
    mean, deviation = _moments(images)
    return ImageData(
        name=name,
        images=_standardised(images, mean, deviation),
        labels=labels,
        test_images=_standardised(test_images, mean, deviation),
        test_labels=test_labels,
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        notes=raw.notes,
    )


def validation_split(
    data: ImageData, share: float
) -> tuple[Int32[np.ndarray, " fit"], Int32[np.ndarray, " validation"]]:
    """Rows of the training images for fitting and for validation, both balanced.

    Raises `ValueError` if a class has too few images for both.
    """
    held = round(share * data.per_class)
    if not 1 <= held < data.per_class:
        raise ValueError(
            f"{data.per_class} training images of each class cannot be split into fit and "
            "validation: take more with `per_class`, or give `learning_rate`"
        )
    rows = np.arange(len(data.labels), dtype=np.int32).reshape(data.num_classes, data.per_class)
    # The order within a class is random already.
    return rows[:, held:].reshape(-1), rows[:, :held].reshape(-1)


def _checked_images(name: str, images: np.ndarray) -> np.ndarray:
    """Convert to (N, h, w, c), and check that images are real and finite."""
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{name} must be (N, h, w), (N, h, w, c) or (N, c, h, w), got shape {images.shape}"
        )
    if images.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be real numbers, got dtype {images.dtype}")
    if images.size == 0:
        raise ValueError(f"{name} is empty, of shape {images.shape}: add images")
    if images.dtype.kind == "f" and not np.all(np.isfinite(images)):
        raise ValueError(f"{name} has entries that are NaN or infinite: remove those images")
    return images if images.ndim == 4 else images[..., None]


def _checked_labels(name: str, labels: np.ndarray, samples: int) -> np.ndarray:
    """Convert labels to int32, (N,), and check that they are whole numbers."""
    if labels.shape != (samples,):
        raise ValueError(
            f"{name} must be one whole number for each of the {samples} images, got shape "
            f"{labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, got dtype {labels.dtype}")
    if labels.size and (int(labels.min()) < 0 or int(labels.max()) >= 2**31):
        wrong = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise ValueError(f"{name} must be 0, 1, …, K-1, got {wrong}")
    return labels.astype(np.int32)


def _class_counts(labels: np.ndarray) -> np.ndarray:
    if labels.min() < 0:
        raise ValueError(f"labels must be 0, 1, …, K-1, got {labels.min()}")
    if labels.max() >= len(labels):
        raise ValueError(
            f"labels must be 0, 1, …, K-1, got {labels.max()} among {len(labels)} images"
        )
    counts = np.bincount(labels)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        hint = ": number the classes from 0" if empty.tolist() == [0] else ""
        raise ValueError(f"labels has no image of class {empty[0]}, of 0..{len(counts) - 1}{hint}")
    if len(counts) < 2:
        raise ValueError("labels needs at least 2 classes, got 1")
    return counts


def _balanced(
    labels: np.ndarray, counts: np.ndarray, per_class: int | None, seed: int
) -> np.ndarray:
    """Rows of equally many images per class, class by class, at random within each class."""
    smallest = int(counts.min())
    wanted = smallest if per_class is None else per_class
    if wanted < 2:
        raise ValueError(f"per_class must be at least 2, got {wanted}")
    if wanted > smallest:
        raise ValueError(
            f"per_class = {wanted} is more than class {int(counts.argmin())} has: {smallest} "
            "training images"
        )
    rng = np.random.default_rng(seed)
    members = (np.flatnonzero(labels == label) for label in range(len(counts)))
    return np.concatenate([rng.permutation(rows)[:wanted] for rows in members])


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every channel, in double precision."""
    axes = (0, 1, 2)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is refused below
        mean = np.asarray(np.mean(images, axis=axes, dtype=np.float64))
        deviation = np.asarray(np.std(images, axis=axes, dtype=np.float64))
    if not np.all(np.isfinite(deviation)):
        raise ValueError("images are too large to be standardised: scale them to about 1")
    least = 1e-12 * np.max(np.abs(images), axis=axes)
    if not np.all(deviation > least):
        channel = int(np.argmin(deviation - least))
        raise ValueError(f"images are constant in channel {channel}: remove it")
    return mean, deviation


def _standardised(images: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    # Double precision, so that an offset does not hide the variation; in parts, to limit memory.
    parts = [
        ((images[begin : begin + _AT_ONCE] - mean) / deviation).astype(np.float32)
        for begin in range(0, len(images), _AT_ONCE)
    ]
    return np.concatenate(parts)


#: Number of images in double precision at a time.
_AT_ONCE = 4096
