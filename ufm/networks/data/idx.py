"""Read the IDX files of MNIST and similar data sets, without trusting them.

bytes 0–1   zero
byte  2     type of the entries: 0x08 for unsigned bytes, the only one here
byte  3     number of axes
then        the length of each axis, 4 bytes big-endian, and the entries, last axis fastest

    images = read_idx(Path("train-images-idx3-ubyte.gz"), ndim=3)
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

_UNSIGNED_BYTES = 0x08
#: Far more than the largest such data set (EMNIST, 814,255 images): a larger header is wrong.
_LARGEST = 2**32


def read_idx(path: Path, ndim: int) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes, gzipped or not, with `ndim` axes.

    Raises `ValueError`, in one line that names the file, if it is missing, damaged, truncated, too
    long or of another kind.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"{path} is not an IDX file: fetch it again")
    kind, axes = content[2], content[3]
    if kind != _UNSIGNED_BYTES or axes != ndim:
        raise ValueError(
            f"{path} holds type 0x{kind:02x} with {axes} axes instead of unsigned bytes with "
            f"{ndim}: is it another file of the data set?"
        )
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape)
    if len(content) < start or len(content) != expected or expected > _LARGEST:
        raise ValueError(
            f"{path} is damaged: its header asks for {expected:,} bytes, it has {len(content):,}; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ValueError(f"{path} is damaged or truncated: fetch it again") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the file") from None
