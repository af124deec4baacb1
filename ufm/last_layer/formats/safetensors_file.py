"""Tensors in a .safetensors file, mapped into memory.

The file is eight bytes with the length of its header, the header in JSON, and the tensors. The
library checks that the tensors fill the file, each in its place.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from ufm.last_layer.formats.stored_array import StoredArray

_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "BOOL": np.bool_},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8},
}


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins with these nine bytes has the header of the format."""
    # The library, too, refuses a header of more than 100 MB.
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= 100_000_000


def arrays_of_safetensors(path: Path) -> list[StoredArray]:
    """The tensors of the file. Raises `ValueError` if it is damaged or truncated."""
    try:
        with safe_open(path, "numpy"):
            pass
    except SafetensorError:
        raise ValueError(f"{path} is damaged or truncated: write it again") from None
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return [_tensor(path, 8 + length, name, entry) for name, entry in header.items()]


def _tensor(path: Path, start: int, name: str, entry: dict) -> StoredArray:
    shape = tuple(entry["shape"])

    def read() -> tuple[np.ndarray]:
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(
                f"{name} in {path} has dtype {entry['dtype']}: save it as F32, F16 or BF16"
            )
        if 0 in shape:  # which cannot be mapped
            return (np.empty(shape, dtype),)
        offset = start + entry["data_offsets"][0]
        return (np.memmap(path, dtype, "r", offset, shape),)

    return StoredArray(name, str(path), (shape,), read)
