"""Points in files: stored by `ufm solve`, or stored together with their problem."""

import io
from pathlib import Path

import numpy as np

from ufm._support.npz import read_arrays
from ufm.last_layer.read import Classifier, as_classifier, load_classifier
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.losses import loss_spec
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.runs.run_folder import read_json


def load_solution(path: Path) -> Classifier | LargeLayer:
    """Read a point stored by `ufm solve`, with the problem of its folder, or else a last layer.

    Raises `ValueError`, in one line, if the file has no point or several, or if `load_classifier`
    refuses it.
    """
    marker, entry = path.parent / "config.json", path.with_suffix(".json")
    config = read_json(marker) if marker.is_file() and entry.is_file() else {}
    stored = ("lam_w", "lam_h", "lam_b")
    if not (isinstance(config, dict) and all(name in config for name in stored)):
        return load_classifier(path, in_memory=True)
    if config.get("targets"):
        raise ValueError(
            f"{path} is a point of a problem with targets, not a classifier: give the problem "
            f"itself, ufm spectrum --config {marker}"
        )
    arrays, _ = read_arrays(path, ("W", "H", "b", "labels"))
    if "W" not in arrays:
        raise ValueError(
            f"{path} has no W and H, as ufm solve --save none wants: solve again with --save best"
        )
    if "points" in read_json(entry):
        raise ValueError(
            f"{path} holds the {len(arrays['W'])} points of a census: have them written as files, "
            f"ufm landscape --config {marker} --out {path.parent} --save-points, and give one"
        )
    if arrays["W"].ndim == 3:
        raise ValueError(
            f"{path} holds the W and H of {len(arrays['W'])} starts, as ufm solve --save all "
            "wants: solve again with --save best, or save one of them with its problem (ufm "
            "certify --help)"
        )
    return as_classifier(
        arrays["W"],
        arrays["H"],
        arrays["labels"],
        b=arrays.get("b"),
        loss=read_json(entry)["loss"],
        features="columns",
        classifier="rows",
        in_memory=True,
        **{name: config[name] for name in stored},
    )


def point_file(problem: Problem, params: Params) -> bytes:
    """Make an .npz of a point with its problem, in the format of `load_classifier`."""
    arrays = {
        "W": params.W,
        "H": params.H,
        "labels": problem.labels,
        "loss": loss_spec(problem.loss),
        "lam_w": problem.lam_w,
        "lam_h": problem.lam_h,
    }
    if params.b is not None:
        arrays |= {"b": params.b, "lam_b": problem.lam_b}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(array) for name, array in arrays.items()})  # pyright: ignore[reportArgumentType]  # names are ours
    return buffer.getvalue()
