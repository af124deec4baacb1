"""Tensors in a checkpoint of PyTorch, read by its own loader, which runs no code of the file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ufm._support.host_arrays import host
from ufm.last_layer.formats.stored_array import StoredArray

_CONVERT = (
    "where PyTorch is installed, convert it: safetensors.torch.save_file(tensors, FILE), or "
    "numpy.savez(FILE, **{name: x.numpy() for name, x in tensors.items()})"
)


def arrays_of_torch(path: Path) -> list[StoredArray]:
    """The tensors, numbers and texts of the checkpoint; names in nested dictionaries have dots.

    A file of one tensor has its name. Raises `ValueError` without PyTorch, if the checkpoint holds
    other objects than tensors and plain containers, or if it is damaged.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]  # no dependency
    except ImportError:
        raise ValueError(
            f"{path} is a PyTorch checkpoint, and PyTorch is not installed here: {_CONVERT}"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zip and runtime errors, depending on the damaged part
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise ValueError(
                f"{path} holds Python objects (a pickle), which are never loaded: save the tensors "
                "alone, torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(f"{path} is damaged or truncated: write it again") from None
    if not isinstance(content, Mapping):
        content = {path.stem: content}
    return [_array(path, name, value) for name, value in _leaves(content)]


def _leaves(content: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _array(path: Path, name: str, value: Any) -> StoredArray:
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except (TypeError, ValueError):  # tensors of different shapes
            value = np.asarray(None)
    shape = tuple(getattr(value, "shape", ()))

    def read() -> tuple[np.ndarray]:
        try:
            array = host(value)
        except (TypeError, RuntimeError, BufferError):  # sparse and quantised tensors
            array = np.asarray(None)
        if array.dtype.kind not in "biufUS":
            raise ValueError(f"{name} in {path} is not an array of numbers: save a dense tensor")
        return (array,)

    return StoredArray(name, str(path), (shape,), read)
