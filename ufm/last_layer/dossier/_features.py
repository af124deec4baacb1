"""The entry of certificate.json on features that stay in their files.

Each shard has the place of its .npy file relative to the folder of the certificate (None if it is
not one: write the shard with numpy.save), its shape, and the SHA-256 of its numbers, as rows of
little-endian numbers of one type.
"""

import hashlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from ufm.last_layer.features import Features

#: Rows that are hashed at a time.
_ROWS = 4096


def features_entry(features: Features, folder: Path) -> dict[str, Any]:
    """Describe the features; reads them once."""
    dtype = features.dtype.newbyteorder("<")
    shards = []
    for shard in features.shards:
        digest = hashlib.sha256()
        # Of one type, although this shard alone might do with a narrower one.
        for _, rows in Features((shard,), features.layout).blocks(_ROWS):
            digest.update(np.ascontiguousarray(rows, dtype).data)
        shards.append(
            {
                "file": _relative(shard, folder),
                "shape": list(shard.shape),
                "sha256": digest.hexdigest(),
            }
        )
    return {"dtype": features.dtype.name, "layout": features.layout, "shards": shards}


def _relative(shard: np.ndarray, folder: Path) -> str | None:
    """The path of the .npy file that holds exactly this array."""
    mapped = shard if isinstance(shard, np.memmap) else shard.base
    if not (isinstance(mapped, np.memmap) and isinstance(mapped.base, mmap.mmap)):
        return None
    path, pair = str(mapped.filename), (shard.__array_interface__, mapped.__array_interface__)
    if not path.endswith(".npy") or pair[0] != pair[1]:  # a part of it, or its transpose
        return None
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return None
