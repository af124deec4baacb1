"""Sources of images: scikit-learn's digits, Fashion-MNIST, or an .npz file.

    digits          1,797 grey images of 8 × 8, 10 classes, in scikit-learn itself. It has no test
                    set: 40 images of each class, always the same ones, are set aside.
    fashion-mnist   60,000 + 10,000 grey images of 28 × 28, 10 classes (Xiao, Rasul & Vollgraf,
                    2017), from $UFM_DATA, the Debian package or the user's cache, in that order.
    FILE.npz        arrays `images` (N, h, w), (N, h, w, c) or (N, c, h, w) and `labels` (N), and
                    `test_images` and `test_labels`; without these a fifth of each class is set
                    aside. If shapes are ambiguous, `channels` says "last" or "first".

Nothing is downloaded.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ufm._support.npz import read_arrays
from ufm.networks.data.idx import read_idx

#: Seed of the choice of test images: part of the definition of a source, not of a run.
_HOLD_OUT_SEED = 20220
_DIGITS_TEST_PER_CLASS = 40
_TEST_SHARE = 0.2

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
#: The files of `_ARRAYS`, with their numbers of axes.
_FASHION_FILES = (
    ("train-images-idx3-ubyte", 3),
    ("train-labels-idx1-ubyte", 1),
    ("t10k-images-idx3-ubyte", 3),
    ("t10k-labels-idx1-ubyte", 1),
)
_ARRAYS = ("images", "labels", "test_images", "test_labels")
#: Numbers of channels: grey, colour, colour with transparency.
_USUAL_CHANNELS = (1, 3, 4)


class RawImages(NamedTuple):
    """Unprocessed images, (N, h, w) or (N, h, w, c) of any real type, and their labels.

    `notes` are sentences on how they were read.
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    notes: tuple[str, ...] = ()


def read_source(source: str) -> RawImages:
    """Read "digits", "fashion-mnist" or the .npz at a path.

    Raises `ValueError`, in one line with the remedy, for a source that is missing or damaged.
    """
    if source == "digits":
        return _digits()
    if source == "fashion-mnist":
        return _fashion_mnist()
    if source.endswith(".npz") or os.sep in source or Path(source).exists():
        return _npz(source)
    raise ValueError(
        f"unknown data {source!r}: choose digits, fashion-mnist or the path of an .npz file"
    )


def _digits() -> RawImages:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            "digits come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from None
    found: Any = load_digits()
    images, labels = found["images"], found["target"]
    return hold_out(images, labels, lambda _: _DIGITS_TEST_PER_CLASS)


def fashion_mnist_folders() -> tuple[Path, ...]:
    """The folders to search for Fashion-MNIST, in order."""
    given = os.environ.get("UFM_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = (Path(given), Path(given) / "fashion-mnist") if given else ()
    return (*named, _DEBIAN, cache / "ufm" / "fashion-mnist")


def _fashion_mnist() -> RawImages:
    for folder in fashion_mnist_folders():
        found = [(_either(folder, name), axes) for name, axes in _FASHION_FILES]
        there = [(path, axes) for path, axes in found if path is not None]
        if len(there) == len(found):
            images, labels, test_images, test_labels = (read_idx(*each) for each in there)
            return RawImages(images, labels, test_images, test_labels)
    raise ValueError(
        "Fashion-MNIST is not on this machine: sudo apt install dataset-fashion-mnist (or put "
        "its four files into a folder and name that in UFM_DATA)"
    )


def _either(folder: Path, name: str) -> Path | None:
    """The file, gzipped or not; None if neither exists."""
    candidates = (folder / f"{name}.gz", folder / name)
    return next((path for path in candidates if path.is_file()), None)


def _npz(source: str) -> RawImages:
    arrays, others = read_arrays(source, (*_ARRAYS, "channels"), ("images", "labels"))
    for name in ("images", "labels"):
        if name not in arrays:
            has = ", ".join(sorted([*arrays, *others])) or "nothing"
            raise ValueError(f"{source} has no {name} (it has {has}): add images and labels")
    tests = [name for name in _ARRAYS[2:] if name in arrays]
    if len(tests) == 1:
        raise ValueError(
            f"{source} has {tests[0]} only: add the other of {' and '.join(_ARRAYS[2:])}"
        )
    notes = [f"not used: {', '.join(others)}"] if others else []
    images = arrays["images"]
    if images.ndim == 4 and _channels_first(images.shape, arrays.pop("channels", None)):
        _, channels, height, width = images.shape
        notes.append(
            f"images of shape {images.shape} are read channels first: {channels} channels of "
            f"{height} x {width}"
        )
        for name in ("images", "test_images"):
            if name in arrays and arrays[name].ndim == 4:
                arrays[name] = np.moveaxis(arrays[name], 1, -1)
    found = _split(*(arrays.get(name) for name in _ARRAYS))
    return found._replace(notes=tuple(notes))


def _split(images: Any, labels: Any, test_images: Any, test_labels: Any) -> RawImages:
    """Add test images: a fifth of each class, if none are given."""
    if test_images is not None:
        return RawImages(images, labels, test_images, test_labels)
    if labels.ndim != 1 or images.shape[:1] != labels.shape:
        return RawImages(images, labels, images[:0], labels[:0])  # refused by the check of arrays
    return hold_out(images, labels, lambda count: round(_TEST_SHARE * count))


def _channels_first(shape: tuple[int, ...], said: np.ndarray | None) -> bool:
    """Whether images are stored as (N, c, h, w), as in PyTorch, and not as (N, h, w, c).

    A usual number of channels and square images are evidence for a reading. Raises `ValueError` if
    the evidence is equal, or if only an unusual number of channels could be first.
    """
    if said is not None:
        if str(said) not in ("first", "last"):
            raise ValueError(f"channels must be 'first' or 'last', got {said}")
        return str(said) == "first"
    _, a, b, c = shape
    usual_first, usual_last = a in _USUAL_CHANNELS, c in _USUAL_CHANNELS
    first, last = usual_first + (b == c), usual_last + (a == b)
    if first < last:
        return False
    if first > last and usual_first:
        return True
    raise ValueError(
        f"images of shape {shape} may be {c} channels of {a} x {b} or {a} channels of {b} x {c}: "
        "add channels='last' or channels='first' to the .npz to say which"
    )


def hold_out(images: np.ndarray, labels: np.ndarray, test: Callable[[int], int]) -> RawImages:
    """Set aside `test(n)` of the n images in each class, always the same ones."""
    rng = np.random.default_rng(_HOLD_OUT_SEED)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: test(len(members))]] = True
    return RawImages(images[~held], labels[~held], images[held], labels[held])
