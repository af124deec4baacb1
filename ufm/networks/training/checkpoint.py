r"""Store a run of training on disk, in one .npz that is written whole or not at all.

    meta            JSON: format, configuration, hash of the data, epochs done, status, seconds
    leaf_0 …        network, momentum and batch statistics, in the order of the state's leaves
    history_NAME    the measurements so far

It contains no pickles. A run that continues from it has the bits of an uninterrupted run.
"""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ufm._support.atomic_files import unwritable, write_whole
from ufm._support.npz import read_arrays
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.epoch import State

_FORMAT = 1

#: Measurements by name, an entry for each time.
History = dict[str, np.ndarray]


class Checkpoint(NamedTuple):
    """The progress of a run."""

    state: State
    epochs_done: int
    status: str
    seconds: float
    history: History


def save(path: Path, checkpoint: Checkpoint, config: TrainConfig, data_hash: str) -> None:
    """Write it, whole or not at all. Raises `ValueError` if the file cannot be written."""
    meta = {
        "format": _FORMAT,
        "config": config.builtins(),
        "data": data_hash,
        "epochs_done": checkpoint.epochs_done,
        "status": checkpoint.status,
        "seconds": checkpoint.seconds,
        "history": list(checkpoint.history),
    }
    leaves = jax.tree.leaves(checkpoint.state)
    arrays: dict[str, Any] = {
        "meta": np.array(json.dumps(meta)),
        **{f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)},
        **{f"history_{name}": column for name, column in checkpoint.history.items()},
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise unwritable(path, error) from None


def load(path: Path, like: State, config: TrainConfig, data_hash: str) -> Checkpoint | None:
    """Read the checkpoint at a path, if there is one; `like` is a state of the same shapes.

    Raises `ValueError`, in one line, for a damaged file, a file that is not a checkpoint, or a
    checkpoint of another configuration or other data.
    """
    if not path.exists():
        return None
    meta = _meta(path)
    differing = [
        name for name, value in config.builtins().items() if meta["config"].get(name) != value
    ]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path} belongs to another run ({name} = {meta['config'].get(name)!r}, not "
            f"{getattr(config, name)!r}): choose another file"
        )
    if meta["data"] != data_hash:
        raise ValueError(f"{path} belongs to a run on other data: choose another file")
    leaves, treedef = jax.tree.flatten(like)
    names = [f"leaf_{i}" for i in range(len(leaves))]
    columns = {f"history_{name}": name for name in meta["history"]}
    arrays, _ = read_arrays(path, [*names, *columns])
    for name, leaf in zip(names, leaves, strict=True):
        found = arrays.get(name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise _damaged(path)
    if not columns.keys() <= arrays.keys():
        raise _damaged(path)
    state = jax.tree.unflatten(treedef, [jax.numpy.array(arrays[name]) for name in names])
    return Checkpoint(
        state=state,
        epochs_done=meta["epochs_done"],
        status=meta["status"],
        seconds=meta["seconds"],
        history={name: arrays[key] for key, name in columns.items()},
    )


def _meta(path: Path) -> dict[str, Any]:
    arrays, _ = read_arrays(path, ["meta"])
    try:
        meta = json.loads(str(arrays["meta"]))
        if meta["format"] != _FORMAT or not isinstance(meta["config"], dict):
            raise ValueError
        _ = meta["data"], int(meta["epochs_done"]), meta["status"], float(meta["seconds"])
        return meta | {"history": list(meta["history"])}
    except (KeyError, TypeError, ValueError):
        raise _damaged(path) from None


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is not a checkpoint of this program: remove it to start again")
