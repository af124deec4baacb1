"""A layer read in blocks, beside the two matrix passes that no certificate can do without.

    python benchmarks/streaming.py            # writes streaming.json beside this file

Features are made up: balanced classes, whose f* is in closed form, with means and noise after a
ReLU, float32 in an .npy file in the temporary folder (400 MB for N = 200,000, d = 512). The bare
passes compute WH and GHᵀ with NumPy from the same memory map. Each of the two is a process of its
own; they take turns, with the file in the system's cache, so that whatever else the machine does
slows both. `first` is the first turn, with the compilation that later ones do not repeat, `seconds`
the median of the others and `best` the least, all without imports. `cpu` is the median of the time
on all cores. `ratio` is the median over turns of certified to bare. `megabytes` is the peak of the
resident set beyond that after the imports, mapped pages included.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
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


def measured(folder: Path, times: int) -> dict[str, Any]:
    """Run both in turn, in fresh processes, and measure time and memory."""
    works, spawn = ("bare", "certified"), multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pools = {work: stack.enter_context(spawn.Pool(1)) for work in works}
        before = {work: pool.apply(_imported) for work, pool in pools.items()}
        turns = [
            {work: pool.apply(_timed, (work, folder)) for work, pool in pools.items()}
            for _ in range(1 + times)
        ]
    first, *others = turns
    entry: dict[str, Any] = {}
    for work in works:
        seconds, cpu = ([turn[work][i] for turn in others] for i in range(2))
        entry[work] = {
            "first": first[work][0],
            "seconds": statistics.median(seconds),
            "best": min(seconds),
            "cpu": statistics.median(cpu),
            "megabytes": (others[-1][work][2] - before[work]) / 1e6,
        } | first[work][3]
    ratios = [turn["certified"][0] / turn["bare"][0] for turn in others]
    return entry | {"ratio": statistics.median(ratios), "ratios": sorted(ratios)}


def _imported() -> int:
    import jax

    import ufm

    _ = ufm.examine  # imports what it needs
    jax.config.update("jax_enable_x64", True)
    return _peak()


def _timed(work: str, folder: Path) -> tuple[float, float, int, dict[str, Any]]:
    """Seconds, seconds on all cores, the peak of the memory, and what was found."""
    begin, cpu = time.perf_counter(), time.process_time()
    found = bare(folder) if work == "bare" else certified(folder)
    return time.perf_counter() - begin, time.process_time() - cpu, _peak(), found or {}


def _peak() -> int:
    # getrusage has the peak of the process that started this one, if that was larger.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    from cases import environment

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="200000,512,100", help="N,d,K;N,d,K;...")
    parser.add_argument("--times", type=int, default=15, help="turns after the first")
    parser.add_argument("--folder", type=Path, help="for the features; default: a temporary one")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    results = {}
    for text in options.sizes.split(";"):
        samples, dim, classes = map(int, text.split(","))
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            make(Path(folder), samples, dim, classes)
            entry = measured(Path(folder), options.times)
        results[f"N={samples}, d={dim}, K={classes}"] = entry
        print(text, json.dumps(entry, indent=1), flush=True)
    report = {"environment": environment(("ufm", "jax", "numpy")), "streaming": results}
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
