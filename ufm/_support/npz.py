"""Read an .npz file of unknown origin: plain arrays, or one line that says what is wrong.

Pickles are never loaded, because reading an array of Python objects can run code. Only the
requested arrays are read, so that a damaged or huge array that is not needed does no harm.

    arrays, others = read_arrays("last_layer.npz", wanted=("W", "H", "labels"))
"""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Exceptions raised by reading a damaged zip member, depending on the damaged part.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,  # a header that makes no sense
    KeyError,
    MemoryError,  # a header that asks for more than there is
    NotImplementedError,  # a compression nobody uses
    RuntimeError,  # an encrypted member
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(
    path: str | os.PathLike[str],
    wanted: Iterable[str],
    example: Iterable[str] = ("W", "H", "labels"),
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the `wanted` arrays that the file has, and list the names of all others.

    Raises `ValueError`, in one line that names the file and the remedy, if the file is missing,
    unreadable, not an .npz file, damaged or truncated, or contains Python objects. The remedy names
    the arrays of the `example`.
    """
    names, how = list(wanted), _how(example)
    with _opened(Path(path), how) as file:
        arrays = {name: _member(file, name, path, how) for name in names if name in file.files}
        return arrays, [name for name in file.files if name not in names]


def array_shapes(
    path: str | os.PathLike[str], example: Iterable[str] = ("W", "H", "labels")
) -> dict[str, tuple[int, ...] | None]:
    """The shapes of all arrays by name, without reading them; None where the header is damaged.

    Raises `ValueError` for the file as `read_arrays` does.
    """
    with _opened(Path(path), _how(example)) as file:
        return {name: _shape(file.zip, f"{name}.npy") for name in file.files}


def _shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...] | None:
    try:
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0
            return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)[0]
    except DAMAGED:
        return None


def _how(example: Iterable[str]) -> str:
    return f"write it with numpy.savez(FILE, {', '.join(f'{name}=...' for name in example)}, ...)"


@contextlib.contextmanager
def _opened(path: Path, how: str) -> Iterator[Any]:
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the .npz file itself")
    try:
        stream = open(path, "rb")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the file") from None
    # NumPy leaves a file that it opened itself open if the archive is damaged.
    with stream:
        start = stream.read(8)
        stream.seek(0)
        if start.startswith(b"\x93NUMPY"):
            raise ValueError(f"{path} is a single array (.npy), not an .npz file: {how}")
        if start.startswith(b"\x80"):
            raise ValueError(f"{path} is a pickle, which is never loaded: {how}")
        if not start.startswith(b"PK"):
            raise ValueError(f"{path} is not an .npz file: {how}")
        try:
            file = np.load(stream, allow_pickle=False)
            members = file.zip.namelist()
        except DAMAGED:
            raise ValueError(f"{path} is damaged or truncated: write it again") from None
        with file:
            if not any(member.endswith(".npy") for member in members):
                raise ValueError(
                    f"{path} is a zip archive without NumPy arrays (as a PyTorch checkpoint is): "
                    f"{how}"
                )
            yield file


def _member(file: Any, name: str, path: Any, how: str) -> np.ndarray:
    try:
        array = file[name]
    except DAMAGED as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{name} in {path} is an array of Python objects (a pickle), which is never "
                "loaded: save plain numbers"
            ) from None
        raise ValueError(
            f"{name} in {path} is damaged or truncated: write the file again"
        ) from None
    if not isinstance(array, np.ndarray):  # a member that is no .npy comes as bytes
        raise ValueError(f"{name} in {path} is not a NumPy array: {how}")
    return array
