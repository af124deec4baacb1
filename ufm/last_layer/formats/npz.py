"""Arrays in an .npz file, read one at a time."""

from pathlib import Path

from ufm._support.npz import array_shapes, read_arrays
from ufm.last_layer.formats.stored_array import StoredArray


def arrays_of_npz(path: Path) -> list[StoredArray]:
    """The arrays of the file. Raises `ValueError` as `ufm._support.npz.read_arrays` does."""

    def stored(name: str, shape: tuple[int, ...] | None) -> StoredArray:
        shapes = () if shape is None else (shape,)
        return StoredArray(name, str(path), shapes, lambda: (read_arrays(path, (name,))[0][name],))

    return [stored(name, shape) for name, shape in array_shapes(path).items()]
