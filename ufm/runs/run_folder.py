"""The folder of a run: one JSON and one npz per loss, written whole or not at all.

`RunFolder` is the folder of any command; what it holds of `ufm solve` is made here too.
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
from ufm.certificates.certificate import Reason, Verdict
from ufm.collapse.symmetric_solution import collapse_threshold, supported
from ufm.last_layer.read import Classifier, as_classifier, load_classifier
from ufm.model.problem import Params
from ufm.runs.many_starts import Verification
from ufm.solvers import History, Status

LossResult = dict[str, Any]
_FORMAT = 1
#: What is stored of a run's history.
HISTORY = ("step", "products", "value", "grad_norm")


class Clock:
    """Wall time since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where results go, and what configuration they belong to."""

    path: Path
    config: dict[str, Any]

    @classmethod
    def open(cls, path: Path | None, config: dict[str, Any], command: str = "solve") -> "RunFolder":
        """Make the folder, or continue in one that holds the same configuration.

        Without a path it is a new one in ufm-results, named after the command and the time.
        Raises `ValueError` for a folder of another configuration and for one that it cannot write.
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
        """Is there such a folder of this configuration already?

        Raises `ValueError` for one of another configuration, or of something else.
        """
        marker = path / "config.json"
        if marker.exists():
            if _read(marker) != json.loads(json.dumps(config)):
                raise ValueError(
                    f"{path} holds results of another configuration: choose another --out"
                )
            return True
        if path.exists() and (not path.is_dir() or _foreign(path)):
            raise ValueError(f"{path} exists and holds no ufm results: choose another --out")
        return False

    def load(self, name: str) -> LossResult | None:
        """The finished result of a loss, if it is there and whole."""
        entry = self.path / f"{slug(name)}.json"
        return _read(entry) if entry.exists() else None

    def store(self, name: str, arrays: dict[str, Any], result: LossResult) -> None:
        """Write one loss: arrays first, so that the JSON says that both are whole."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_whole(self.path / f"{slug(name)}.npz", buffer.getvalue())
        write_whole(self.path / f"{slug(name)}.json", dumps(result).encode())

    def arrays(self, name: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """Those of the `wanted` arrays that were stored of a loss.

        Raises `ValueError`, with the remedy, where the file cannot be read.
        """
        entry = self.path / f"{slug(name)}.npz"
        try:
            return read_arrays(entry, wanted)[0]
        except ValueError as error:
            raise self.unreadable(name, error) from None

    def unreadable(self, name: str, error: Exception) -> ValueError:
        """What to raise, and what to do, where the arrays of a loss are not what was stored."""
        return ValueError(
            f"{self.path / slug(name)}.npz cannot be read ({error}): remove it and the .json "
            "beside it, or choose another --out"
        )

    def history(self, name: str) -> History:
        """The history of every run of a loss, as it was stored."""
        arrays = self.arrays(name, [f"history_{field}" for field in HISTORY])
        try:
            return History(**{f: jax.numpy.asarray(arrays[f"history_{f}"]) for f in HISTORY})
        except KeyError as error:
            raise self.unreadable(name, error) from None

    def add(self, name: str, content: bytes) -> None:
        """Write another file, whole or not at all; `name` may begin with a folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def finish(self, results: list[LossResult]) -> None:
        """Write results.json, which has everything."""
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
    """Versions and machine that the numbers may depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("ufm", "jax", "numpy", "optax")}
    return {
        **versions,
        "python": platform.python_version(),
        "backend": jax.default_backend(),
        "cores": cores(),
    }


def loss_result(name: str, verification: Verification, seconds: float) -> LossResult:
    """All that is said of the runs of a loss, as JSON has it."""
    minimum, problem = verification.minimum, verification.problem
    solutions, certificates = verification.solutions, verification.certificates
    metrics = verification.metrics
    threshold = collapse_threshold(problem) if supported(problem) else None
    columns = {
        "value": solutions.value,
        "grad_norm": solutions.grad_norm,
        "steps": solutions.num_steps,
        "products": solutions.num_products,
        "gap": certificates.gap,
        "rounding": certificates.rounding,
        "dual_norm": certificates.dual_norm,
        "nc1": metrics.nc1,
        "nc2": metrics.nc2,
        "nc3": metrics.nc3,
        "nc4": metrics.nc4,
    }
    lists = {key: np.asarray(column).tolist() for key, column in columns.items()}
    runs = [
        {
            "start": i,
            "verdict": verification.verdicts[i].name,
            "reason": Reason(int(np.asarray(certificates.reason)[i])).name,
            "status": Status(int(np.asarray(solutions.status)[i])).name,
            "matches_geometry": verification.geometry[i].matches,
            "logit_distance": verification.geometry[i].logit_distance,
            **{key: column[i] for key, column in lists.items()},
        }
        for i in range(verification.num_starts)
    ]
    return {
        "loss": name,
        "label": problem.loss.label(),
        "minimum": {
            "value": minimum.value,
            "lower_bound": minimum.lower_bound,
            "is_exact": minimum.is_exact,
            "kind": minimum.kind,
            "reason": minimum.reason,
            "rho": minimum.rho,
            "tau": minimum.tau,
            "bias_level": minimum.bias_level,
            "rank": minimum.rank,
        },
        "threshold": float(certificates.threshold[0]),
        "collapse_threshold": None if threshold is None else float(threshold.mu),
        "collapse_jumps": None if threshold is None else bool(threshold.jumps),
        "dtype": str(certificates.dtype),
        "starts": verification.num_starts,
        "verdicts": {v.name: verification.verdicts.count(v) for v in Verdict},
        "geometry_matches": verification.num_matching,
        "seconds": seconds,
        "runs": runs,
    }


def loss_arrays(verification: Verification, save: str) -> dict[str, Any]:
    """What its npz holds: histories, and the W, H, b of the "best" run, of "all", or of "none"."""
    solutions = verification.solutions
    history = {f"history_{field}": getattr(solutions.history, field) for field in HISTORY}
    arrays: dict[str, Any] = {
        "labels": verification.problem.labels,
        "value": solutions.value,
        "verdict": verification.certificates.verdict,
        "gap": verification.certificates.gap,
        **history,
    }
    if save != "none":
        chosen: Params = solutions.params
        if save == "best":
            best = lowest(np.asarray(solutions.value).tolist())
            chosen = jax.tree.map(lambda x: x[best], chosen)
            arrays["start"] = best
        arrays |= {"W": chosen.W, "H": chosen.H}
        if chosen.b is not None:
            arrays["b"] = chosen.b
    return {key: np.asarray(array) for key, array in arrays.items()}


def load_solution(path: Path) -> Classifier:
    """A point that `ufm solve` stored, with the problem that its folder names; else a last layer.

    Raises `ValueError`, in one line, where the file holds no point, several, or one that
    `load_classifier` refuses.
    """
    marker, entry = path.parent / "config.json", path.with_suffix(".json")
    config = _read(marker) if marker.is_file() and entry.is_file() else {}
    stored = ("lam_w", "lam_h", "lam_b")
    if not (isinstance(config, dict) and all(name in config for name in stored)):
        return load_classifier(path)
    arrays, _ = read_arrays(path, ("W", "H", "b", "labels"))
    if "W" not in arrays:
        raise ValueError(
            f"{path} has no W and H, as --save none wants: solve again with --save best"
        )
    if "points" in _read(entry):
        raise ValueError(
            f"{path} holds the {len(arrays['W'])} points of a census: have them written as files, "
            f"ufm landscape --config {marker} --out {path.parent} --save-points, and give one"
        )
    if arrays["W"].ndim == 3:
        raise ValueError(
            f"{path} holds the W and H of {len(arrays['W'])} starts, as --save all wants: solve "
            "again with --save best, or save one of them with its problem (ufm certify --help)"
        )
    return as_classifier(
        arrays["W"],
        arrays["H"],
        arrays["labels"],
        b=arrays.get("b"),
        loss=_read(entry)["loss"],
        features="columns",
        classifier="rows",
        **{name: config[name] for name in stored},
    )


def lowest(values: Sequence[float | None]) -> int:
    """The run with the lowest f; the first where none has a finite one."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    return int(np.argmin(np.where(np.isfinite(numbers), numbers, np.inf)))


def _fresh(path: Path) -> Path:
    """A folder nobody has: two runs may start within a second."""
    for i in itertools.count(1):
        candidate = path if i == 1 else path.with_name(f"{path.name}-{i}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        return candidate
    raise AssertionError("unreachable")


def _foreign(folder: Path) -> bool:
    """Does it hold anything but what an interrupted write left behind?"""
    return any(not entry.name.endswith(PARTIAL) for entry in folder.iterdir())


def slug(name: str) -> str:
    """The name of a loss as a file name; injective on canonical texts."""
    return re.sub(r"[^a-z0-9.+-]", "_", name)


class _Stored(dict[str, Any]):
    """An object of a file of JSON, which says the file's name where a field is missing."""

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(
            f"{self._path} cannot be read (the field {name!r} is missing): remove it or choose "
            "another --out"
        )


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_hook=lambda fields: _Stored(path, fields))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): remove it or choose another --out"
        ) from None
