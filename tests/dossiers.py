"""Certificates for tests, and their verify.py in an interpreter without this library."""

import dataclasses
import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from points import gaussian, make, origin

from ufm import (
    LabelSmoothing,
    Params,
    Problem,
    as_classifier,
    examine,
    global_minimum,
    write_dossier,
)
from ufm.losses import ClassWeighted

#: Runs scripts in an interpreter that can import neither this library nor what it is made of.
ALONE = """
import contextlib, io, json, runpy, sys
sys.modules.update(ufm=None, jax=None, scipy=None, optax=None)
paths, sys.argv, results = sys.argv[1:], sys.argv[:1], []
for path in paths:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as stop:
            results.append((stop.code, said.getvalue()))
print(json.dumps(results))
"""


WEIGHTS = np.array([0.5, 1.0, 1.5])


def verify(*folders: Path) -> list[tuple[int, str]]:
    """Exit code and lines of the verify.py in each folder."""
    scripts = [str(folder / "verify.py") for folder in folders]
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    return [(code, said) for code, said in json.loads(done.stdout)]


def load_script() -> ModuleType:
    """verify.py as a module, not by way of the package that it came with."""
    root = Path(__file__).resolve().parent.parent
    path = root / "ufm" / "last_layer" / "dossier" / "verify.py"
    spec = importlib.util.spec_from_file_location("verify_script", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["verify_script"] = script
    spec.loader.exec_module(script)
    return script


#: The same lines as those of a process of its own, in milliseconds.
SCRIPT = load_script()


def failed(folder: Path) -> dict[str, str]:
    """The checks that fail, and what they say."""
    return {line.name: line.text for line in SCRIPT.check(folder) if line.outcome == "FAILED"}


def forge(source: Path, target: Path, change: Any, sign: bool = True) -> Path:
    """A copy in which `change(said, arrays)` was at work, signed again with the right digest.

    What `change` returns, if anything, is the text of certificate.json.
    """
    shutil.copytree(source, target)
    said = json.loads((target / "certificate.json").read_text())
    with np.load(target / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    digest = said["arrays_sha256"]
    said["arrays_sha256"] = "@digest"
    text = change(said, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (target / "arrays.npz").write_bytes(buffer.getvalue())
    if sign:
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    text = text if isinstance(text, str) else json.dumps(said)
    (target / "certificate.json").write_text(text.replace("@digest", digest))
    return target


def examination(problem: Problem, params: Params, tol=None, lam_h=None):
    """As if the point had come from PyTorch: rows, in another order."""
    order = np.random.default_rng(0).permutation(problem.num_columns)
    layer = as_classifier(
        params.W,
        np.asarray(params.H).T[order],
        problem.labels[order],
        loss=problem.loss,
        lam_w=problem.lam_w,
        lam_h=lam_h,
        b=params.b,
        lam_b=problem.lam_b,
        features="rows",
    )
    return examine(layer, tol)


def minimiser(problem: Problem) -> Params:
    return global_minimum(problem).params(jax.random.key(3))


def write_streamed(
    folder: Path, problem: Problem, params: Params, dtype: Any = np.float32, layout: str = "rows"
) -> Any:
    """The features in two shards on disk, one not counted; certificates as given and centred."""
    order = np.random.default_rng(7).permutation(problem.num_columns)
    rows, labels = np.asarray(params.H).T[order], problem.labels[order].astype(int)
    rows, labels = np.insert(rows, 1, 9.0, axis=0), np.insert(labels, 1, -100)
    folder.mkdir(exist_ok=True)
    shards = []
    for i, part in enumerate(np.split(rows.astype(dtype), [4])):
        np.save(folder / f"H_{i}.npy", part if layout == "rows" else part.T)
        shards.append(np.load(folder / f"H_{i}.npy", mmap_mode="r"))
    layer = as_classifier(
        np.asarray(params.W), shards, labels, loss=problem.loss, lam_w=problem.lam_w, b=params.b,
        lam_b=problem.lam_b, features=layout, classifier="rows", in_memory=False,
    )  # fmt: skip
    found = examine(layer)
    for name, view in (("given", found), ("centred", found.centred)):
        if view is not None:
            write_dossier(view, folder / name)
    return found


def write_three(folder: Path) -> Path:
    """A minimum, a saddle, and a point that is neither, with class weights, in such folders."""
    problem = make(LabelSmoothing(0.1), lam_b=1e-2)
    for name, params in (("minimum", minimiser(problem)), ("saddle", origin(problem))):
        write_dossier(examination(problem, params, lam_h=problem.lam_h), folder / name)
    weighted = dataclasses.replace(problem, loss=ClassWeighted(problem.loss, WEIGHTS))
    write_dossier(examination(weighted, gaussian(problem, 1, 1.0)), folder / "anywhere")
    return folder
