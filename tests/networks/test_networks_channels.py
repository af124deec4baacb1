"""Which axis of images has the channels: told by shapes, by the file, or asked for."""

from pathlib import Path

import numpy as np
import pytest
from images import SIDE, raw_images, write_images

from ufm.networks import load_data
from ufm.networks.data.sources import _channels_first
from ufm.networks.sweeps.cell import images
from ufm.networks.sweeps.grid import DataTable


def colour_file(path: Path, *axes: int, **more) -> str:
    """Three channels of 4 x 4 in another order of axes."""
    raw = raw_images(channels=3)
    arrays = {name: getattr(raw, name).transpose(0, *axes) for name in ("images", "test_images")}
    return str(write_images(path, **arrays, **more))


def test_channels_first_are_read_as_what_they_are_and_said(tmp_path):
    # 4 x 4 x 3, where 4 could be channels too, and as PyTorch has them.
    last = load_data(colour_file(tmp_path / "last.npz", 1, 2, 3))
    first = load_data(colour_file(tmp_path / "first.npz", 3, 1, 2))
    assert first.image_shape == last.image_shape == (SIDE, SIDE, 3)
    assert first.fingerprint() == last.fingerprint()
    assert last.notes == ()
    assert first.notes == (
        "images of shape (36, 3, 4, 4) are read channels first: 3 channels of 4 x 4",
    )
    # What the file says decides, also against the shape.
    wide = load_data(colour_file(tmp_path / "wide.npz", 1, 2, 3, channels="first"))
    assert wide.image_shape == (SIDE, 3, SIDE)
    np.testing.assert_array_equal(wide.images.shape, (36, 4, 3, 4))


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((3, 8, 8), True),
        ((1, 28, 28), True),
        ((4, 32, 64), True),
        ((3, 4, 4), True),
        ((32, 32, 3), False),
        ((28, 28, 1), False),
        ((4, 4, 1), False),
        ((48, 64, 3), False),
        ((8, 8, 16), False),
        ((4, 4, 2), None),
        ((3, 8, 3), None),
        ((3, 3, 3), None),
        ((16, 8, 8), None),
        ((5, 6, 7), None),
    ],
)
def test_which_axis_has_the_channels_is_asked_where_shapes_do_not_say(shape, first):
    if first is not None:
        assert _channels_first((10, *shape), None) == first
        return
    with pytest.raises(ValueError, match=r"may be .*: add channels='last' or channels='first'"):
        _channels_first((10, *shape), None)


def test_arrays_that_are_not_read_and_a_wrong_word_are_named(tmp_path):
    data = load_data(str(write_images(tmp_path / "more.npz", images_test=np.zeros(3))))
    assert data.notes == ("not used: images_test",)
    with pytest.raises(ValueError, match="channels must be 'first' or 'last', got middle"):
        load_data(colour_file(tmp_path / "wrong.npz", 1, 2, 3, channels="middle"))


def test_a_sweep_says_it_too(tmp_path):
    path = colour_file(tmp_path / "first.npz", 3, 1, 2)
    with pytest.warns(UserWarning, match="read channels first: 3 channels of 4 x 4"):
        assert images(DataTable(source=path)).image_shape == (SIDE, SIDE, 3)
