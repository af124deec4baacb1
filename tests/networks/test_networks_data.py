"""Images: what is read, what is refused, how they are chosen, sorted and standardised."""

import builtins
import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from images import CLASSES, PER_CLASS, SIDE, TEST_PER_CLASS, raw_images, small_data, write_images

from ufm.networks import load_data, validation_split
from ufm.networks.data.idx import read_idx
from ufm.networks.data.images import prepare
from ufm.networks.data.sources import fashion_mnist_folders


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file, written from its definition."""
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.astype(np.uint8).tobytes()


# IDX files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_as_written(packed, tmp_path):
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5) * 7 % 256
    content = idx(array)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    np.testing.assert_array_equal(read_idx(path, 3), array)


_WHOLE = idx(np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file"),
        (b"<html>", "is no IDX file"),
        (_WHOLE[:3], "is no IDX file"),
        (_WHOLE[:9], "is damaged"),
        (_WHOLE[:-1], "its header asks for 40 bytes, it has 39"),
        (_WHOLE + b"x", "its header asks for 40 bytes, it has 41"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "is damaged"),
        (bytes([0, 0, 13, 3]) + _WHOLE[4:], "holds type 0x0d with 3 axes"),
        (idx(np.arange(5)), "holds type 0x08 with 1 axes instead of unsigned bytes with 3"),
        (
            gzip.compress(_WHOLE, mtime=0)[:-9],
            "is damaged or truncated",
        ),
        (
            gzip.compress(_WHOLE, mtime=0)[:15] + b"\0\0\0\0",
            "is damaged or truncated",
        ),
        (b"\x1f\x8b", "is damaged or truncated"),
    ],
)
def test_damaged_idx_files_are_one_line(content, message, tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_idx(path, 3)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        read_idx(tmp_path / "nowhere", 3)


# Sources -------------------------------------------------------------------------------------


def fashion(folder: Path, packed: bool) -> dict[str, np.ndarray]:
    """Four files as Fashion-MNIST has them, of 20 + 10 images."""
    rng = np.random.default_rng(1)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(20) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (10, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(10),
    }
    folder.mkdir()
    for name, array in arrays.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_is_found_where_it_is_said_to_be(packed, tmp_path, monkeypatch):
    arrays = fashion(tmp_path / "data", packed)
    monkeypatch.setenv("UFM_DATA", str(tmp_path / "data"))
    data = load_data("fashion-mnist")
    assert data.images.shape == (20, 28, 28, 1)
    assert data.test_images.shape == (10, 28, 28, 1)
    raw = arrays["train-images-idx3-ubyte"].astype(float)
    expected = (arrays["t10k-images-idx3-ubyte"] - raw.mean()) / raw.std()
    np.testing.assert_allclose(data.test_images[..., 0], expected, rtol=2e-6, atol=2e-6)


def test_fashion_mnist_that_is_missing_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("UFM_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert [str(path) for path in fashion_mnist_folders()] == [
        str(tmp_path),
        str(tmp_path / "fashion-mnist"),
        "/usr/share/datasets/fashion-mnist",
        str(tmp_path / "cache" / "ufm" / "fashion-mnist"),
    ]
    monkeypatch.setattr("ufm.networks.data.sources._DEBIAN", tmp_path / "nothing")
    with pytest.raises(ValueError, match="sudo apt install dataset-fashion-mnist") as error:
        load_data("fashion-mnist")
    assert "\n" not in str(error.value)
    # Three of the four files are not the data set.
    fashion(tmp_path / "fashion-mnist", packed=True)
    assert load_data("fashion-mnist").num_classes == 10
    (tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="is not on this machine"):
        load_data("fashion-mnist")


def test_digits_have_a_test_set_that_never_changes():
    first, other = load_data("digits", per_class=20, seed=0), load_data("digits", seed=1)
    assert first.images.shape == (200, 8, 8, 1)
    assert other.per_class == 134  # of 174 images of an 8, the rarest, 40 are for testing
    assert np.bincount(first.test_labels).tolist() == [40] * 10
    np.testing.assert_array_equal(first.test_labels, other.test_labels)
    raw = [data.test_images * data.deviation + data.mean for data in (first, other)]
    np.testing.assert_allclose(*raw, atol=1e-5)
    # No test image is among the training images.
    training = (other.images * other.deviation + other.mean).reshape(len(other.images), -1)
    known = {tuple(row) for row in np.rint(training).astype(int).tolist()}
    held = np.rint(raw[0]).astype(int).reshape(400, -1).tolist()
    assert not known & {tuple(row) for row in held}


def test_digits_without_scikit_learn_say_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match="pip install scikit-learn"):
        load_data("digits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "has no labels (it has images, test_images, test_labels)"),
        ({"test_labels": None}, "has test_images only: add the other of test_images and"),
        (
            {"images": np.ones((3, 4))},
            "images must be (N, h, w), (N, h, w, c) or (N, c, h, w), got",
        ),
        ({"images": np.ones((36, 4, 4), bool)}, "images must be real numbers, got dtype bool"),
        ({"images": np.ones((0, 4, 4))}, "images is empty"),
        ({"images": np.full((36, 4, 4), np.nan)}, "images has entries that are NaN or infinite"),
        ({"images": np.ones((36, 4, 4, 1))}, "images are constant in channel 0"),
        ({"test_images": np.ones((15, 5, 5))}, "test_images are of shape (5, 5, 1) and images of"),
        ({"labels": np.zeros(5, int)}, "labels must be one whole number for each of the 36"),
        ({"labels": np.zeros(36)}, "labels must be whole numbers, got dtype float64"),
        ({"labels": np.zeros(36, int)}, "labels needs at least 2 classes, got 1"),
        ({"labels": np.arange(36) % 3 - 1}, "labels must be 0, 1, …, K-1, got -1"),
        ({"labels": np.arange(36) % 3 + 1}, "labels has no image of class 0, of 0..3: number"),
        ({"labels": np.arange(36) % 3 * 2}, "labels has no image of class 1, of 0..4"),
        ({"labels": np.full(36, 10**9)}, "labels must be 0, 1, …, K-1, got 1000000000 among 36"),
        ({"test_labels": np.full(15, 7)}, "test_labels has class 7, which labels does not"),
    ],
)
def test_an_npz_that_is_none_is_one_line_that_names_the_array(changes, message, tmp_path):
    path = write_images(tmp_path / "images.npz", **changes)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is the test
        load_data(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mnist", "unknown data 'mnist': choose digits, fashion-mnist or the path"),
        ("nowhere.npz", "nowhere.npz does not exist"),
        ("text.npz", "text.npz is not an .npz file"),
    ],
)
def test_unknown_sources_are_refused(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=message):
        load_data(source)


def test_without_test_images_a_fifth_of_each_class_is_set_aside(tmp_path):
    path = write_images(tmp_path / "images.npz", test_images=None, test_labels=None)
    data = load_data(str(path))
    assert np.bincount(data.test_labels).tolist() == [2] * CLASSES  # of 12, rounded
    assert data.per_class == 10


# Choice, order, standardisation --------------------------------------------------------------


def test_training_images_are_standardised_by_themselves_and_sorted(tmp_path):
    data, raw = small_data(tmp_path), raw_images()
    assert data.images.dtype == data.test_images.dtype == np.float32
    assert data.labels.dtype == np.int32
    assert data.labels.tolist() == np.repeat(np.arange(CLASSES), PER_CLASS).tolist()
    np.testing.assert_allclose(data.images.mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(data.images.std(), 1.0, rtol=1e-6)
    expected = (raw.test_images - raw.images.mean()) / raw.images.std()
    np.testing.assert_allclose(data.test_images, expected, atol=2e-6)
    # Every image kept its label.
    by_label = {
        tuple(np.round(image.ravel(), 2)): label
        for image, label in zip(raw.images, raw.labels, strict=True)
    }
    restored = data.images.astype(float) * data.deviation + data.mean
    assert len(by_label) == CLASSES * PER_CLASS
    assert [
        next(label for key, label in by_label.items() if np.allclose(key, x.ravel(), atol=0.02))
        for x in restored
    ] == data.labels.tolist()


def test_channels_are_standardised_apart(tmp_path):
    raw = raw_images(channels=2)
    raw.images[..., 1] *= 10
    changes = {"images": raw.images, "test_images": raw.test_images, "channels": "last"}
    data = load_data(str(write_images(tmp_path / "two.npz", **changes)))
    assert data.image_shape == (SIDE, SIDE, 2)
    assert data.notes == ()
    np.testing.assert_allclose(data.images.std(axis=(0, 1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(data.deviation[1] / raw.images[..., 1].std(), 1.0, rtol=1e-6)


def test_subsets_are_balanced_and_chosen_by_the_seed(tmp_path):
    path = str(write_images(tmp_path / "images.npz"))
    first, same, other = (load_data(path, per_class=4, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.labels).tolist() == [4] * CLASSES
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    np.testing.assert_allclose(first.images.mean(), 0.0, atol=1e-6)
    for wanted, message in (
        (13, "is more than class 0 has: 12 training images"),
        (1, "at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            load_data(path, per_class=wanted)


def test_the_smallest_class_decides_and_is_named(tmp_path):
    raw = raw_images()
    keep = np.ones(len(raw.labels), bool)
    keep[np.flatnonzero(raw.labels == 1)[:3]] = False
    changes = {"images": raw.images[keep], "labels": raw.labels[keep]}
    path = str(write_images(tmp_path / "images.npz", **changes))
    assert load_data(path).per_class == 9
    with pytest.raises(ValueError, match="per_class = 10 is more than class 1 has: 9"):
        load_data(path, per_class=10)


def test_the_validation_split_is_balanced_and_disjoint(tmp_path):
    data = small_data(tmp_path)
    fit, validation = validation_split(data, 0.25)
    assert np.bincount(data.labels[fit]).tolist() == [9] * CLASSES
    assert np.bincount(data.labels[validation]).tolist() == [3] * CLASSES
    assert sorted([*fit, *validation]) == list(range(len(data.labels)))
    for share in (0.01, 0.99):
        with pytest.raises(ValueError, match="12 training images of each class cannot be split"):
            validation_split(data, share)
    assert len(data.test_labels) == CLASSES * TEST_PER_CLASS


def test_an_offset_does_not_drown_what_varies():
    raw = raw_images()
    far = raw._replace(images=raw.images + 1e9, test_images=raw.test_images + 1e9)
    near, shifted = (prepare("x", each, None, 0) for each in (raw, far))
    # 1e9 itself leaves 1e-7 of the images in double precision.
    np.testing.assert_allclose(shifted.images, near.images, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw._replace(images=raw.images * 1e300), "images are too large"),
        (lambda raw: raw._replace(images=0.0 * raw.images + 0.1), "constant in channel 0"),
        (
            lambda raw: raw._replace(labels=raw.labels.astype(np.int64) * 2**32),
            "labels must be 0, 1, …, K-1, got",
        ),
    ],
)
def test_what_no_network_can_learn_from_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        prepare("x", change(raw_images()), None, 0)


def test_what_is_no_npz_is_told_which_arrays_it_needs(tmp_path):
    (tmp_path / "mine.npz").write_text("images")
    with pytest.raises(ValueError, match=r"savez\(FILE, images=..., labels=..., ...\)"):
        load_data(str(tmp_path / "mine.npz"))
