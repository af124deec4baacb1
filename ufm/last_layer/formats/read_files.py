"""Read files of any kind that holds arrays, which is recognised by the content.

arrays = read_files(["head.safetensors", "feats_0.npy", "feats_1.npy", "y.npy"])
arrays["fc.weight"].shape
"""

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ufm.last_layer.formats.npy import shards_in, shards_of
from ufm.last_layer.formats.npz import arrays_of_npz
from ufm.last_layer.formats.safetensors_file import arrays_of_safetensors, is_safetensors
from ufm.last_layer.formats.stored_array import StoredArray
from ufm.last_layer.formats.torch_checkpoint import arrays_of_torch

#: How to write a file that is read without any library but NumPy.
_HOW = "write it with numpy.savez(FILE, W=..., H=..., labels=..., ...)"


def read_files(paths: Sequence[str | os.PathLike[str]]) -> dict[str, StoredArray]:
    """List the arrays in several files, by name. Files of one array give it their own name.

    .npy files whose names differ by a number are shards of one array, in the order of the numbers.
    A folder stands for the .npy files in it.

    Args:
        paths: Files and folders.

    Returns:
        The arrays, none of which has been read.

    Raises:
        ValueError: A file is missing, damaged, or of a kind that is not read, a shard is missing,
            or two files have an array of the same name.
    """
    found: list[StoredArray] = []
    singles: list[Path] = []
    for path in map(Path, paths):
        reader = _reader(path)
        if reader is None:
            singles.append(path)
        else:
            found += reader(path)
    arrays: dict[str, StoredArray] = {}
    for array in [*found, *shards_of(singles)]:
        if array.name in arrays:
            first = arrays[array.name].source
            raise ValueError(f"{array.name} is in {first} and in {array.source}: give one of them")
        arrays[array.name] = array
    return arrays


def _reader(path: Path) -> Callable[[Path], list[StoredArray]] | None:
    """The reader of a file or folder; None for an .npy file."""
    if path.is_dir():
        return shards_in
    try:
        with open(path, "rb") as stream:
            start = stream.read(9)
            members = zipfile.ZipFile(stream).namelist() if start.startswith(b"PK") else []
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the file") from None
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is damaged or truncated: write it again") from None
    if start.startswith(b"\x93NUMPY"):
        return None
    if any(member.endswith("data.pkl") for member in members):
        return arrays_of_torch
    if start.startswith(b"PK"):
        return arrays_of_npz
    if is_safetensors(start):
        return arrays_of_safetensors
    if start.startswith(b"\x80"):
        raise ValueError(f"{path} is a pickle, which is never loaded: {_HOW}")
    raise ValueError(f"{path} is not an .npz, .npy, .safetensors or .pt file: {_HOW}")
