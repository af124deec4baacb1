"""Arrays in .npy files, which are mapped into memory; several files may be shards of one array."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ufm._support.npz import DAMAGED
from ufm.last_layer.formats.stored_array import StoredArray

#: The name of a shard: feats_0, feats-00001-of-00004, 3.
_NUMBERED = re.compile(r"(?P<name>.*?)[-_.]?(?P<number>\d+)(?:[-_.]?of[-_.]?(?P<count>\d+))?")


def shards_in(folder: Path) -> list[StoredArray]:
    """The arrays of a folder; numbered files alone are called as the folder is.

    Raises `ValueError` if there is no .npy file, or a shard is missing: numbers begin at 0 or 1.
    """
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise ValueError(f"{folder} is a folder without .npy files: give the file itself")
    for name, numbers in _numbered(paths).items():
        first = min(numbers)
        if len(numbers) > 1 and first > 1:
            path = numbers[first]
            raise ValueError(f"{path} is the first shard of {name}: shard 0 or 1 is missing")
    return shards_of(paths)


def shards_of(paths: Iterable[Path]) -> list[StoredArray]:
    """The arrays of .npy files; those whose names differ by a number are one array.

    Raises `ValueError` if a shard is missing, or shards do not fit each other.
    """
    singles = dict.fromkeys(paths)
    found = []
    for name, numbers in _numbered(singles).items():
        of_several = any(_match(path)["count"] for path in numbers.values())
        if len(numbers) == 1 and not of_several:
            continue
        _check_complete(name, numbers)
        shards = [numbers[i] for i in sorted(numbers)]
        found.append(_array(name, shards))
        for path in shards:
            singles.pop(path)
    return found + [_array(path.stem, [path]) for path in singles]


def _match(path: Path) -> re.Match[str]:
    match = _NUMBERED.fullmatch(path.stem)
    assert match is not None
    return match


def _numbered(paths: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Paths of numbered files by the name of their array and number."""
    groups: dict[str, dict[int, Path]] = {}
    for path in paths:
        match = _NUMBERED.fullmatch(path.stem)
        if match is None:
            continue
        group = groups.setdefault(match["name"] or path.absolute().parent.name, {})
        other = group.setdefault(int(match["number"]), path)
        if other != path:
            raise ValueError(f"{path} and {other} have the same number: leave one out")
    return groups


def _check_complete(name: str, numbers: dict[int, Path]) -> None:
    counts = {int(count) for path in numbers.values() if (count := _match(path)["count"])}
    first, last = min(numbers), max(numbers)
    if counts:
        first = min(first, 1)
        last = max(last, max(counts) - 1 + first)
    missing = [i for i in range(first, last + 1) if i not in numbers]
    if missing:
        raise ValueError(
            f"{name} has {len(numbers)} shards, and number {missing[0]} is missing (they are "
            f"{min(numbers)} to {last}): give all of them"
        )


def _array(name: str, paths: list[Path]) -> StoredArray:
    shards = tuple(map(_mapped, paths))
    kinds = {str(shard.dtype): path for shard, path in zip(shards, paths, strict=True)}
    if len(kinds) > 1:
        said = " and ".join(f"{kind} ({path.name})" for kind, path in kinds.items())
        raise ValueError(f"{name} has shards of different dtypes, {said}: convert them to one")
    first = shards[0]
    for shard, path in zip(shards, paths, strict=True):
        apart = sum(n != m for n, m in zip(shard.shape, first.shape, strict=False))
        if shard.ndim != first.ndim or apart > 1:
            raise ValueError(
                f"{path} has shape {shard.shape}, which does not continue {paths[0].name} of shape "
                f"{first.shape}: shards differ in the number of samples alone"
            )
    source = str(paths[0]) if len(paths) == 1 else str(paths[0].parent)
    return StoredArray(name, source, tuple(shard.shape for shard in shards), lambda: shards)


def _mapped(path: Path) -> np.ndarray:
    try:
        # An empty array cannot be mapped, and needs no map.
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        if "Array can't be memory-mapped: Python objects" in str(error):
            raise ValueError(
                f"{path} is an array of Python objects (a pickle), which is never loaded: save "
                "plain numbers"
            ) from None
        raise ValueError(f"{path} is damaged or truncated: write it again") from None
