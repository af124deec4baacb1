"""A point that `ufm solve` stored, read with the problem that its folder names."""

from pathlib import Path

from ufm._support.npz import read_arrays
from ufm.last_layer.read import Classifier, as_classifier, load_classifier
from ufm.runs.run_folder import read_json


def load_solution(path: Path) -> Classifier:
    """A point that `ufm solve` stored, with the problem that its folder names; else a last layer.

    Raises `ValueError`, in one line, where the file holds no point, several, or one that
    `load_classifier` refuses.
    """
    marker, entry = path.parent / "config.json", path.with_suffix(".json")
    config = read_json(marker) if marker.is_file() and entry.is_file() else {}
    stored = ("lam_w", "lam_h", "lam_b")
    if not (isinstance(config, dict) and all(name in config for name in stored)):
        return load_classifier(path)
    arrays, _ = read_arrays(path, ("W", "H", "b", "labels"))
    if "W" not in arrays:
        raise ValueError(
            f"{path} has no W and H, as --save none wants: solve again with --save best"
        )
    if "points" in read_json(entry):
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
        loss=read_json(entry)["loss"],
        features="columns",
        classifier="rows",
        **{name: config[name] for name in stored},
    )
