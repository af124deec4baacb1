"""Write the folder of a certificate whole or not at all."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.resources
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ufm._support.atomic_files import unwritable
from ufm._support.strict_json import dumps
from ufm.certificates.certificate import REASONS, Reason, Verdict
from ufm.collapse.metrics import nc_metrics
from ufm.last_layer.dossier._features import features_entry
from ufm.last_layer.examine import Examination
from ufm.last_layer.read import Classifier
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.losses import ClassWeighted, Loss, loss_family, loss_spec
from ufm.minimum.geometry_match import undefined
from ufm.model.class_means import class_sizes
from ufm.model.constraint_text import constraint_text
from ufm.model.constraints import NonNegative, Sphere

_FORMAT = 1
#: The files of a certificate's folder.
_FILES = ("arrays.npz", "certificate.json", "table.tex", "verify.py")
#: Losses whose formulas verify.py has.
_CHECKED = ("ce", "ls", "fl", "mse", "bce")
#: Beyond this, rounding dominates the focal loss.
_LARGEST_GAMMA = 1e4
#: Products of smaller decays underflow, so that their rounding errors have no bounds.
_SMALLEST_DECAY = 1e-150
#: Claims that verify.py requires to be numbers, with their descriptions.
_FINITE = {
    "value": "f",
    "grad_norm": "the norm of the gradient",
    "critical_tol": "the tolerance of the gradient",
    "dual_norm": "the dual norm",
}


def write_dossier(
    examination: Examination,
    folder: str | os.PathLike[str],
    source: Mapping[str, str] | None = None,
    table: str | None = None,
) -> dict[str, Any]:
    """Write certificate.json, arrays.npz and verify.py, which checks them with NumPy alone.

    Features that are read in blocks stay where they are. certificate.json has their SHA-256, and
    arrays.npz the dual point that proves the lower bound without them.

    The folder is written under another name and renamed, so that it appears whole or not at all.
    An older certificate there is replaced.

    Args:
        examination: From `examine`, in float64.
        folder: The folder to write.
        source: Facts about the layer, which are recorded unchanged.
        table: The content of table.tex beside them, which verify.py does not read; None: no table.

    Returns:
        The content of certificate.json.

    Raises:
        ValueError: The loss is a custom loss, the precision is single, or the folder has other
            contents or cannot be written.
    """
    path = Path(folder)
    check_target(path)
    arrays = io.BytesIO()
    np.savez_compressed(arrays, allow_pickle=False, **_arrays(examination))
    content = arrays.getvalue()
    said = dossier(examination) | {
        "source": dict(source or {}),
        "arrays_sha256": hashlib.sha256(content).hexdigest(),
    }
    if isinstance(examination.layer, LargeLayer):
        said["features"] = features_entry(examination.layer.samples.features, path)
    script = importlib.resources.files("ufm.last_layer.dossier").joinpath("verify.py").read_bytes()
    files = {
        "arrays.npz": content,
        "certificate.json": dumps(said).encode(),
        "verify.py": script,
        **({} if table is None else {"table.tex": table.encode()}),
    }
    try:
        _replace_folder(path, files)
    except OSError as error:
        raise unwritable(path, error) from None
    return json.loads(files["certificate.json"])


def check_target(folder: str | os.PathLike[str]) -> None:
    """Raise `ValueError` if a certificate cannot be written, before anything is computed."""
    path = Path(folder)
    if path.exists():
        foreign = not path.is_dir() or set(os.listdir(path)) - set(_FILES)
        if foreign:
            raise ValueError(f"{path} exists and is not a certificate of ufm: choose another `out`")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # os.access does not detect read-only file systems.
        os.rmdir(tempfile.mkdtemp(prefix=f".{path.name}.", dir=above))
    except OSError as error:
        raise unwritable(path, error) from None


def dossier(examination: Examination) -> dict[str, Any]:
    """The content of certificate.json without the arrays' digest, with null for NaN and infinity.

    Raises `ValueError` if verify.py could not check it: for other losses, single precision,
    and numbers that overflow or underflow.
    """
    layer, certificate = examination.layer, examination.certificate
    problem = layer.problem
    _check_written(examination)
    # The metrics of the arrays, even at the origin: verify.py computes them from the arrays alone.
    blocks = examination.blocks
    metrics = nc_metrics(problem, layer.params) if blocks is None else blocks.metrics
    if problem.has_targets:
        metrics = undefined(metrics)
    verdict, reason = Verdict(int(certificate.verdict)), Reason(int(certificate.reason))
    claims: dict[str, Any] = {
        name: float(getattr(certificate, name))
        for name in (
            "value", "lower_bound", "gap", "tol", "grad_norm", "critical_tol", "dual_norm",
            "threshold",
        )
    }  # fmt: skip
    saddle = verdict is Verdict.STRICT_SADDLE
    claims["escape_curvature"] = float(certificate.escape.curvature) if saddle else None
    claims |= {
        field.name: float(getattr(metrics, field.name)) for field in dataclasses.fields(metrics)
    }
    minimum, nearest = examination.minimum, examination.nearest
    claims |= {
        "minimum": None if nearest is None else minimum.value,
        "distance": None if nearest is None else float(nearest.distance),
        "relative_distance": None if nearest is None else float(nearest.relative),
    }
    return {
        "format": _FORMAT,
        "problem": {
            "loss": loss_spec(_plain(problem.loss)),
            **_class_weights(problem.loss),
            **({"outputs": problem.num_outputs} if problem.has_targets else {}),
            **({} if problem.column_weights is None else {"sample_weights": True}),
            **{name: constraint_text(name, x) for name, x in problem.constraints.items()},
            **({} if problem.temperature is None else {"temperature": float(problem.temperature)}),
            "class_counts": problem.class_counts,
            "dim": problem.dim,
            **{
                name: None if decay is None else float(decay)
                for name in ("lam_w", "lam_h", "lam_b")
                for decay in [getattr(problem, name)]
            },
        },
        "lam_h_inferred": layer.lam_h_inferred,
        "tol": examination.tol,
        "claims": {"verdict": verdict.name, **claims},
        "reason": REASONS[reason],
        "rounding": float(certificate.rounding),
        "notes": layer.notes,
        "minimum_geometry": minimum.kind,
        "minimum_reason": minimum.reason,
        "environment": {name: importlib.metadata.version(name) for name in ("ufm", "jax", "numpy")},
    }


def why_unwritten(layer: Classifier | LargeLayer) -> str | None:
    """Why verify.py could not check a certificate of this layer; None if it can."""
    problem, loss = layer.problem, _plain(layer.problem.loss)
    if problem.variant is not None:
        if not all(isinstance(x, NonNegative | Sphere) for x in problem.constraints.values()):
            return "verify.py checks non-negative features and spheres, no other sets"
        if loss_family(loss) == "fl":
            return "verify.py has no bound for the focal loss in sets"
        free = problem.lam_b is not None and float(problem.lam_b) == 0
        if free and not isinstance(problem.features, NonNegative):
            return "verify.py has no bound for a free bias beside a sphere"
    if loss_family(loss) not in _CHECKED:
        return (
            "a certificate on file is for CE, LS, FL, MSE and BCE, which verify.py checks, got "
            f"{loss.label()}"
        )
    gamma = float(getattr(loss, "gamma", 0.0))
    if gamma > _LARGEST_GAMMA:
        return f"gamma is {gamma:g}: a certificate holds no more than {_LARGEST_GAMMA:g}"
    return None


def _plain(loss: Loss) -> Loss:
    """The loss of class labels, without class weights."""
    loss, _ = loss.without_targets()
    return loss.loss if isinstance(loss, ClassWeighted) else loss


def _class_weights(loss: Loss) -> dict[str, list[float]]:
    """The entry of a problem with class weights."""
    if not isinstance(loss, ClassWeighted):
        return {}
    return {"class_weights": np.asarray(loss.weights).tolist()}


def _check_written(examination: Examination) -> None:
    """Raise `ValueError` for numbers that a certificate cannot represent."""
    layer, certificate = examination.layer, examination.certificate
    problem = layer.problem
    arrays = [certificate.value]
    if not isinstance(layer, LargeLayer):  # which has this precision
        arrays += [x for x in jax.tree.leaves(layer.params) if x is not None]
    if any(x.dtype != np.float64 for x in arrays):
        raise ValueError(
            'a certificate needs double precision: jax.config.update("jax_enable_x64", True), then '
            "as_classifier, which takes arrays to float64 exactly"
        )
    unwritten = why_unwritten(layer)
    if unwritten is not None:
        raise ValueError(unwritten)
    for name in ("lam_w", "lam_h", "lam_b"):
        decay = getattr(problem, name)
        if decay is not None and 0 < float(decay) < _SMALLEST_DECAY:
            raise ValueError(
                f"{name} is {float(decay):g}, whose products underflow: a certificate needs 0, or "
                f"{_SMALLEST_DECAY:g} or more"
            )
    for name, what in _FINITE.items():
        size = float(getattr(certificate, name))
        multipliers = name == "dual_norm" and (problem.lam_w is None or problem.lam_h is None)
        if not (math.isfinite(size) or multipliers):  # of which one is negative
            raise ValueError(
                f"{what} is {size} at this point: entries of W and H are too large, rescale"
            )


def _arrays(examination: Examination) -> dict[str, np.ndarray]:
    layer, certificate, blocks = examination.layer, examination.certificate, examination.blocks
    labels = layer.problem.labels
    arrays: dict[str, Any]
    if isinstance(layer, LargeLayer) and blocks is not None:
        arrays = {"labels": layer.stored.labels.astype(np.int32), "W": layer.W, "b": layer.b}
        arrays |= {"dual": blocks.dual, "offset": layer.offset}
        arrays["sample_weights"] = layer.stored.sample_weights
    else:
        # The positions among the samples that were not left out.
        order = np.argsort(np.argsort(layer.order))
        arrays = {"labels": labels, "order": order, "W": layer.params.W}
        arrays |= {"H": layer.params.H, "b": layer.params.b, "targets": layer.problem.targets}
        arrays["sample_weights"] = layer.problem.column_weights
    if certificate.verdict is Verdict.STRICT_SADDLE:
        direction = certificate.escape.direction
        arrays |= {"escape_W": direction.W, "escape_H": direction.H}
    if examination.nearest is not None:
        minimiser = examination.nearest.params
        # The features of a class are equal, so that one column of each is enough.
        if blocks is None:
            first = np.unique(labels, return_index=True)[1]
            roots = np.sqrt(np.asarray(layer.problem.samples(np.float64))[first])
            features = np.asarray(minimiser.H)[:, first] / roots
        else:  # the columns of the problem of class means
            features = np.asarray(minimiser.H) / np.sqrt(np.asarray(class_sizes(layer.problem)))
        arrays |= {"minimum_W": minimiser.W, "minimum_H": features}
        # The nearest one may be shifted by a number so large that rounding erases b*.
        arrays["minimum_b"] = examination.minimum.bias
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}


def _replace_folder(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new, old = partial / "new", partial / "old"
        new.mkdir()
        for name, content in files.items():
            with open(new / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if path.exists():
            os.rename(path, old)
        os.rename(new, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
