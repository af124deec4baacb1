"""Read a last layer from files: arrays by name, decays, loss and weights."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from ufm._support.host_arrays import host
from ufm.last_layer.as_trained import Objective, Reduction
from ufm.last_layer.formats.read_files import read_files
from ufm.last_layer.formats.stored_array import StoredArray
from ufm.last_layer.names import Finder, check_beside
from ufm.last_layer.sets import layout_and_set
from ufm.last_layer.soft_labels import Soft
from ufm.last_layer.stored_layer import StoredLayer, store_layer
from ufm.losses import CrossEntropy, loss_spec, parse_loss
from ufm.model.constraint_text import confines

_SETTINGS = ("loss", "lam_w", "lam_h", "lam_b")


class Reading(TypedDict, total=False):
    """How to read arrays, instead of inferring it: see `ufm.last_layer.read.as_classifier`."""

    features: str | None
    classifier: str | None
    ignore_index: int | None
    first_label: int | None
    class_names: Sequence[str] | None
    soft: Soft | None


def read_layer(
    paths: Sequence[str | os.PathLike[str]],
    names: Mapping[str, str | None],
    settings: Mapping[str, Any],
    *,
    reduction: Reduction | None = None,
    **reading: Unpack[Reading],
) -> StoredLayer:
    """Read all of a layer but its features.

    `names` are those of arrays, None to find them, and `settings` the loss, decays and temperature,
    None to read the file's. `ufm.last_layer.read.load_classifier` says what they are, and what is
    raised.
    """
    arrays = read_files(paths)
    where = " and ".join(map(str, paths))
    finder = Finder(where, arrays, names)
    found = finder.layer()
    class_weights, sample_weights, temperature = (
        finder.optional(what) for what in ("class_weights", "sample_weights", "temperature")
    )
    stored = {name: arrays[name] for name in _SETTINGS if name in arrays}
    if temperature is not None:
        stored["temperature"] = temperature
    without = _confined_decays(reading)
    dropped = [name for name in without if name in stored and settings.get(name) is None]
    overridden = [f"{name} of the file is not used: a confined norm has none" for name in dropped]
    stored = {name: array for name, array in stored.items() if name not in dropped}
    values, notes = _settings(stored, settings)
    overridden += notes
    for name in ("lam_w", "loss"):
        if name not in values and name not in without:
            has = ", ".join(sorted(arrays))
            raise ValueError(f"{where} has no {name} (it has {has}): add it, or give `{name}`")
    others = [name for name in arrays if name not in (*_SETTINGS, *finder.taken)]
    check_beside(where, others, values)
    unused = [f"not used: {_some(others)}"] if others else []
    objective = Objective(
        parse_loss(values["loss"]),
        values.get("lam_w"),
        values.get("lam_h"),
        values.get("lam_b"),
        reduction,
        values.get("temperature"),
        None if class_weights is None else host(class_weights.whole()),
        None if sample_weights is None else host(sample_weights.whole()),
    )
    layer = _stored(found, objective, reading)
    if not layer.sets:
        _check_not_cosine(layer)
    return dataclasses.replace(layer, notes=(*overridden, *finder.notes, *unused, *layer.notes))


def read_without_decays(
    paths: Sequence[str | os.PathLike[str]],
    names: Mapping[str, str | None],
    **reading: Unpack[Reading],
) -> StoredLayer:
    """Read a layer for numbers that depend neither on its loss nor on decays, which are set to 0.

    Raises `ValueError` as `read_layer` does.
    """
    finder = Finder(" and ".join(map(str, paths)), read_files(paths), names)
    found = finder.layer()
    objective = Objective(CrossEntropy(), 0.0, 0.0, None if found[1] is None else 0.0)
    layer = _stored(found, objective, reading)
    if layer.targets is not None:
        raise ValueError(
            "labels are soft, and the metrics compare classes: give `soft_labels` argmax for the "
            "class of the largest entry"
        )
    return dataclasses.replace(layer, notes=(*finder.notes, *layer.notes))


def _stored(
    found: tuple[StoredArray, StoredArray | None, StoredArray, StoredArray],
    objective: Objective,
    reading: Reading,
) -> StoredLayer:
    weight, bias, feats, labels = found
    W, shards = weight.whole(), feats.read()
    b = None if bias is None else bias.whole()
    return store_layer(W, shards, labels.whole(), b, objective, **reading)


def _confined_decays(reading: Reading) -> list[str]:
    """The decays that the layer does not have, because a set confines the norm of the factor."""
    found = []
    for name, factor in (("lam_w", "classifier"), ("lam_h", "features")):
        of_set = layout_and_set(factor, reading.get(factor))[1]
        if of_set is not None and confines(of_set, factor):
            found.append(name)
    return found


def _settings(
    stored: Mapping[str, StoredArray], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The given settings, else those of the file, with notes on those that differ."""
    values = {name: _single(name, array.whole()) for name, array in stored.items()}
    notes = []
    for name, value in given.items():
        if value is None:
            continue
        value = loss_spec(parse_loss(value)) if name == "loss" else value
        if name in values and values[name] != value:
            notes.append(f"the given {name} = {value} overrides {values[name]} of the file")
        values[name] = value
    return values, notes


def _single(name: str, array: np.ndarray) -> Any:
    """The single number or text in an array."""
    if array.size != 1:
        raise ValueError(f"{name} must be a single value, got an array of shape {array.shape}")
    value = array.reshape(()).item()
    if name == "loss":
        value = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        if not isinstance(value, str):
            raise ValueError(f"loss must be text such as 'ce' or 'ls:0.1', got {value!r}")
        return loss_spec(parse_loss(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _check_not_cosine(layer: StoredLayer) -> None:
    """Raise `ValueError` if rows of W and features have norm 1 up to the rounding of float16."""
    block = layer.shards[0][:64] if layer.layout == "rows" else layer.shards[0][:, :64].T
    with np.errstate(over="ignore"):
        norms = [np.linalg.norm(np.asarray(x, np.float64), axis=1) for x in (layer.W, block)]
    if layer.b is None and all(np.all(np.abs(size - 1.0) < 1e-3) for size in norms):
        raise ValueError(
            "W has rows of norm 1, and H features of norm 1, as a cosine head has, which is "
            "another problem: give `classifier` sphere and `features` sphere"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
