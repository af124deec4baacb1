"""Few small images that a network learns, and files of them."""

from pathlib import Path

import numpy as np

from ufm.networks import ImageData, load_data
from ufm.networks.data.sources import RawImages

CLASSES, PER_CLASS, TEST_PER_CLASS, SIDE = 3, 12, 5, 4


def raw_images(seed: int = 0, channels: int = 1) -> RawImages:
    """Noisy copies of a picture for each class, in random order."""
    rng = np.random.default_rng(seed)
    pictures = rng.normal(size=(CLASSES, SIDE, SIDE, channels))

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.repeat(np.arange(CLASSES), count))
        noise = rng.normal(size=(len(labels), SIDE, SIDE, channels))
        return 40 + 20 * (pictures[labels] + 0.5 * noise), labels

    return RawImages(*drawn(PER_CLASS), *drawn(TEST_PER_CLASS))


def write_images(path: Path, **changes) -> Path:
    """An .npz of them; a change replaces an array, None removes it."""
    arrays = raw_images()._asdict() | {"notes": None} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def small_data(folder: Path) -> ImageData:
    """They as training and test data."""
    return load_data(str(write_images(folder / "images.npz")))
