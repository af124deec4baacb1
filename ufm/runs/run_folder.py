"""The folder of a run: one JSON and one npz per loss, written whole or not at all.

`RunFolder` serves all commands. `ufm.runs.loss_result` makes the contents for `ufm solve`.
"""

import dataclasses
import datetime
import importlib.metadata
import io
import itertools
import json
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ufm._support.atomic_files import PARTIAL, unwritable, write_whole
from ufm._support.npz import read_arrays
from ufm._support.strict_json import dumps
from ufm._support.threads import cores
from ufm.runs.loss_result import HISTORY, LossResult
from ufm.solvers import History

_FORMAT = 1


class Clock:
    """Wall time since the clock was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A folder of results, and the configuration that they belong to."""

    path: Path
    config: dict[str, Any]

    @classmethod
    def open(cls, path: Path | None, config: dict[str, Any], command: str = "solve") -> "RunFolder":
        """Make the folder, or continue in a folder of the same configuration.

        Without a path, a new folder in ufm-results is named after the command and the time. Raises
        `ValueError` for a folder of another configuration or one that cannot be written.
        """
        config = json.loads(json.dumps(config))
        if path is None:
            stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
            path = _fresh(Path("ufm-results") / f"{command}-{stamp}")
        if not cls.exists(path, config):
            try:
                path.mkdir(parents=True, exist_ok=True)
                write_whole(path / "config.json", dumps(config).encode())
            except OSError as error:
                raise unwritable(path, error) from None
        return cls(path, config)

    @staticmethod
    def exists(path: Path, config: dict[str, Any]) -> bool:
        """Whether the folder exists and has this configuration.

        Raises `ValueError` if it has another configuration, or other contents.
        """
        marker = path / "config.json"
        if marker.exists():
            if read_json(marker) != json.loads(json.dumps(config)):
                raise ValueError(
                    f"{path} holds results of another configuration: choose another `out`"
                )
            return True
        if path.exists() and (not path.is_dir() or _foreign(path)):
            raise ValueError(f"{path} exists and holds no ufm results: choose another `out`")
        return False

    def load(self, name: str) -> LossResult | None:
        """The finished result of a loss, if it exists and is complete."""
        entry = self.path / f"{slug(name)}.json"
        return read_json(entry) if entry.exists() else None

    def store(self, name: str, arrays: dict[str, Any], result: LossResult) -> None:
        """Write one loss, the JSON last, so that its existence shows that both are complete."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_whole(self.path / f"{slug(name)}.npz", buffer.getvalue())
        write_whole(self.path / f"{slug(name)}.json", dumps(result).encode())

    def arrays(self, name: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """Read the `wanted` arrays that were stored for a loss.

        Raises `ValueError`, with the remedy, if the file cannot be read.
        """
        entry = self.path / f"{slug(name)}.npz"
        try:
            return read_arrays(entry, wanted)[0]
        except ValueError as error:
            raise self.unreadable(name, error) from None

    def unreadable(self, name: str, error: Exception) -> ValueError:
        """The error for damaged arrays of a loss, with the remedy."""
        return ValueError(
            f"{self.path / slug(name)}.npz cannot be read ({error}): remove it and the .json "
            "beside it, or choose another `out`"
        )

    def history(self, name: str) -> History:
        """The stored history of every run of a loss."""
        arrays = self.arrays(name, [f"history_{field}" for field in HISTORY])
        try:
            return History(**{f: jax.device_put(arrays[f"history_{f}"]) for f in HISTORY})
        except KeyError as error:
            raise self.unreadable(name, error) from None

    def add(self, name: str, content: bytes) -> None:
        """Write another file, whole or not at all; `name` may begin with a folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def finish(self, results: list[LossResult]) -> None:
        """Write results.json, with the results of all losses."""
        write_whole(self.path / "results.json", self.as_json(results).encode())

    def as_json(self, results: list[LossResult]) -> str:
        return dumps(
            {
                "format": _FORMAT,
                "folder": str(self.path),
                "config": self.config,
                "environment": environment(),
                "losses": results,
            }
        )


def environment() -> dict[str, Any]:
    """The versions and the machine, on which numbers may depend."""
    versions = {name: importlib.metadata.version(name) for name in ("ufm", "jax", "numpy", "optax")}
    return {
        **versions,
        "python": platform.python_version(),
        "backend": jax.default_backend(),
        "cores": cores(),
    }


def _fresh(path: Path) -> Path:
    """Make a folder with an unused name, since two runs may start within a second."""
    for i in itertools.count(1):
        candidate = path if i == 1 else path.with_name(f"{path.name}-{i}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        return candidate
    raise AssertionError("unreachable")


def _foreign(folder: Path) -> bool:
    """Whether the folder contains anything but remains of an interrupted write."""
    return any(not entry.name.endswith(PARTIAL) for entry in folder.iterdir())


def slug(name: str) -> str:
    """The file name of a loss; injective on canonical texts."""
    return re.sub(r"[^a-z0-9.+-]", "_", name)


class _Stored(dict[str, Any]):
    """A JSON object that names its file if a field is missing."""

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(
            f"{self._path} cannot be read (the field {name!r} is missing): remove it or choose "
            "another `out`"
        )


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises `ValueError`, with the remedy, if it or a field cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_hook=lambda fields: _Stored(path, fields))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): remove it or choose another `out`"
        ) from None
