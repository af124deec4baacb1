"""A layer read in blocks, beside the two matrix passes that no certificate can do without.

    python benchmarks/streaming.py            # writes streaming.json beside this file

Features are made up: balanced classes, whose f* is in closed form, with means and noise after a
ReLU, float32 in an .npy file in the temporary folder (400 MB for N = 200,000, d = 512). The bare
passes compute WH and GHᵀ with NumPy from the same memory map. Each of the two is a process of its
own, and the best of several times counts, with the file in the system's cache. `megabytes` is the
peak of the resident set beyond that after the imports, mapped pages included; `seconds` leaves out
imports, and `first` includes the compilation that later runs of a process do not repeat.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 4096


def make(folder: Path, samples: int, dim: int, classes: int) -> None:
    """Write H, W and labels, in pieces."""
    rng = np.random.default_rng(0)
    means = np.maximum(rng.standard_normal((classes, dim)), 0.0).astype(np.float32)
    labels = rng.permutation(np.arange(samples) % classes)
    H = np.lib.format.open_memmap(folder / "H.npy", "w+", np.float32, (samples, dim))
    for start in range(0, samples, BLOCK):
        noise = rng.standard_normal((len(labels[start : start + BLOCK]), dim), np.float32)
        H[start : start + BLOCK] = np.maximum(means[labels[start : start + BLOCK]] + 0.1 * noise, 0)
    H.flush()
    W = means - means.mean(axis=0)
    np.savez(folder / "head.npz", W=0.1 * W, b=np.zeros(classes, np.float32))
    np.save(folder / "labels.npy", labels)


def bare(folder: Path) -> None:
    """WH, and GHᵀ with a G of this size."""
    H = np.load(folder / "H.npy", mmap_mode="r")
    with np.load(folder / "head.npz") as head:
        W = head["W"]
    G = np.empty((len(H), len(W)), np.float32)
    for start in range(0, len(H), BLOCK):
        np.matmul(H[start : start + BLOCK], W.T, out=G[start : start + BLOCK])
    product = np.zeros_like(W)
    for start in range(0, len(H), BLOCK):
        product += G[start : start + BLOCK].T @ H[start : start + BLOCK]


def certified(folder: Path) -> dict[str, Any]:
    """The examination of `ufm certify`."""
    import ufm

    layer = ufm.load_classifier(
        [folder / "head.npz", folder / "H.npy", folder / "labels.npy"],
        loss="ce", lam_w=5e-4, lam_b=5e-4,
    )  # fmt: skip
    found = ufm.examine(layer)
    assert found.centred is not None
    return {
        "layer": type(layer).__name__,
        "verdict": found.centred.certificate.verdict.name,
        "value": float(found.certificate.value),
        "rounding": float(found.certificate.rounding),
        "nc1": float(found.metrics.nc1),
        "minimum": found.minimum.reason,
    }


def measured(work: str, folder: Path, times: int) -> dict[str, Any]:
    """Run in a fresh process, and measure its time and memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, folder, times))


def _measured(work: str, folder: Path, times: int) -> dict[str, Any]:
    import jax

    import ufm
    import ufm.last_layer.examine

    jax.config.update("jax_enable_x64", True)
    before, seconds, found = _peak(), [], None
    for _ in range(times):
        begin = time.perf_counter()
        found = bare(folder) if work == "bare" else certified(folder)
        seconds.append(time.perf_counter() - begin)
    return {
        "first": seconds[0],
        "seconds": min(seconds),
        "megabytes": (_peak() - before) / 1e6,
        "ufm": ufm.__version__,
    } | (found or {})


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    from cases import environment

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="200000,512,100", help="N,d,K;N,d,K;...")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the features; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    results = {}
    for text in options.sizes.split(";"):
        samples, dim, classes = map(int, text.split(","))
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            make(Path(folder), samples, dim, classes)
            entry = {
                work: measured(work, Path(folder), options.times) for work in ("bare", "certified")
            }
        entry["ratio"] = entry["certified"]["seconds"] / entry["bare"]["seconds"]
        results[f"N={samples}, d={dim}, K={classes}"] = entry
        print(text, json.dumps(entry, indent=1), flush=True)
    report = {"environment": environment(("ufm", "jax", "numpy")), "streaming": results}
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
