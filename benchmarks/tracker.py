"""Neural collapse of batches of features, by `ufm.CollapseTracker` and by neural-collapse.

    python benchmarks/tracker.py                # writes tracker.json; a few minutes when idle
    python benchmarks/tracker.py --repeats 1    # where only the values matter
    python benchmarks/tracker.py --table        # the tables of tracker.json

The peer is rhubarbwu/neural-collapse 0.1, for PyTorch. PyPI does not have it: install its source
with `pip install --no-deps`. Both get the same float32 tensors on the CPU, in batches, and measure
NC1–NC5, the within/between ratio, CDNV and generalised NC2. The forward passes of a network, three
for the peer and two for ours, are not in the times, which are medians after one run that is not
counted. The truth is two passes over all features in float64. There are three sets of features:
plain ones, the same with an offset of 1000, and ones that have collapsed along the class means and
not at right angles to them.

Where definitions differ, the peer's functions are called so that they agree: NC2 is of W, and all
classes have equally many samples (its global mean is that of the class means; its option for
weights fails). It has no bias, so that W has none here.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cases import environment
from rich.console import Console
from rich.table import Table

import ufm

FILE = Path(__file__).with_suffix(".json")
KINDS = ("plain", "offset of 1000", "collapsed along the means")


class Size(NamedTuple):
    """K classes of n samples each, d features, batches of m."""

    num_classes: int
    dim: int
    per_class: int
    batch: int

    def label(self) -> str:
        return f"K={self.num_classes}, d={self.dim}, n={self.per_class}, batches of {self.batch}"


SIZES = (Size(10, 64, 500, 128), Size(100, 512, 200, 128), Size(1000, 512, 20, 256))


class Data(NamedTuple):
    """Features (N, d) and labels (N,), in random order; W (K, d); features of other data."""

    features: np.ndarray
    labels: np.ndarray
    W: np.ndarray
    outside: np.ndarray


def data(size: Size, kind: str = KINDS[0]) -> Data:
    """Random class means, samples around them, W near the means: all of float32."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((size.num_classes, size.dim))
    labels = rng.permutation(np.repeat(np.arange(size.num_classes), size.per_class))
    noise = rng.standard_normal((len(labels), size.dim))
    if kind == KINDS[2]:
        for k in range(size.num_classes):  # the class means of the noise are 0
            noise[labels == k] -= noise[labels == k].mean(axis=0)
        basis = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2]
        along = noise @ basis[:-1].T @ basis[:-1]
        noise = 1e-4 * along + 10.0 * (noise - along)
    features = means[labels] + noise + (1000.0 if kind == KINDS[1] else 0.0)
    # Rows of W sum to 0, so that an offset changes no decision.
    W = means + rng.standard_normal(means.shape)
    W -= W.mean(axis=1, keepdims=True)
    outside = 0.3 + rng.standard_normal((1000, size.dim))
    single = [x.astype(np.float32) for x in (features, W, outside)]
    return Data(single[0], labels, *single[1:])


def batches(arrays: tuple[Any, ...], size: int) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(arrays[0]), size):
        yield tuple(x[start : start + size] for x in arrays)


def ours(data: Any, size: Size) -> dict[str, float]:
    tracker = ufm.CollapseTracker(size.num_classes, size.dim)
    for features, labels in batches((data.features, data.labels), size.batch):
        tracker.update(features, labels)
    second = tracker.nearest_mean(data.W)
    for (features,) in batches((data.features,), size.batch):
        second.update(features)
    for (outside,) in batches((data.outside,), size.batch):
        tracker.update_out_of_distribution(outside)
    found = tracker.compute(data.W)
    names = ("nc1", "within_between_ratio", "cdnv", "nc2", "nc3", "gnc2_variance", "nc5")
    return {name: getattr(found, name) for name in names} | {"nc4": second.nc4}


def peer(dtype: str, nc1: str) -> Callable[[Any, Size], dict[str, float]]:
    """The peer's example, in its order; `nc1` is the method of its covariance ratio."""
    import torch
    from neural_collapse.accumulate import (
        CovarAccumulator,
        DecAccumulator,
        MeanAccumulator,
        VarNormAccumulator,
    )
    from neural_collapse.kernels import kernel_stats, log_kernel
    from neural_collapse.measure import (
        clf_ncc_agreement,
        covariance_ratio,
        orthogonality_deviation,
        self_duality_error,
        structure_error,
        variability_cdnv,
    )

    def run(data: Any, size: Size) -> dict[str, float]:
        shape, kind = (size.num_classes, size.dim), getattr(torch, dtype)
        W = data.W.to(kind)
        mean = MeanAccumulator(*shape, dtype=kind)
        for features, labels in batches((data.features, data.labels), size.batch):
            mean.accumulate(features, labels)
        means, centre = mean.compute()
        norms = VarNormAccumulator(*shape, dtype=kind, M=means)
        within = CovarAccumulator(*shape, dtype=kind, M=means)
        for features, labels in batches((data.features, data.labels), size.batch):
            norms.accumulate(features, labels, means)
            within.accumulate(features, labels, means)
        variances, scatter = norms.compute()[0], within.compute()
        decisions = DecAccumulator(*shape, dtype=kind, M=means, W=W)
        for features, labels in batches((data.features, data.labels), size.batch):
            decisions.accumulate(features, labels, W, means)
        outside = MeanAccumulator(*shape, dtype=kind)
        for (features,) in batches((data.outside,), size.batch):
            outside.accumulate(features, torch.zeros(len(features), dtype=torch.int64))
        # Its global mean would count the classes that the other data do not have.
        centre_outside = outside.compute([0])[1]
        return {
            "nc1": covariance_ratio(scatter, means, centre, nc1),
            "within_between_ratio": covariance_ratio(scatter, means, centre, "quotient"),
            "cdnv": variability_cdnv(variances, means, tile_size=64),
            "nc2": structure_error(W, W),
            "nc3": self_duality_error(W, means, centre),
            "gnc2_variance": kernel_stats(means, centre, log_kernel, tile_size=64)[1],
            "nc5": orthogonality_deviation(means, centre_outside),
            "nc4": 1.0 - clf_ncc_agreement(decisions),
        }

    return run


def truth(data: Data) -> dict[str, float]:
    """Every number from all features at once, in float64."""
    H, W, classes = data.features.astype(float), data.W.astype(float), len(data.W)
    shift = H[0].copy()  # exact differences of float32 numbers of one size
    G = H - shift
    means = np.stack([G[data.labels == k].mean(axis=0) for k in range(classes)])
    deviations, centred = G - means[data.labels], means - G.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    rank = min(classes - 1, H.shape[1])
    along = np.mean((deviations @ directions[:rank].T) ** 2, axis=0)
    variances = np.bincount(data.labels, np.sum(deviations**2, axis=1)) / np.bincount(data.labels)
    units = centred / np.linalg.norm(centred, axis=1)[:, None]
    cdnv, energy = [], []
    for i in range(1, classes):
        distance = np.sum((means[:i] - means[i]) ** 2, axis=1)
        cdnv.append((variances[:i] + variances[i]) / (2 * distance))
        energy.append(-np.log(np.linalg.norm(units[:i] - units[i], axis=1)))
    frame = (np.eye(classes) - 1 / classes) / np.sqrt(classes - 1)
    outside, plain = data.outside.astype(float).mean(axis=0), means + shift
    cosine = plain @ outside / np.linalg.norm(plain, axis=1) / np.linalg.norm(outside)
    nearest = np.argmin(np.sum(means**2, axis=1) - 2 * G @ means.T, axis=1)

    def angle(gram: Any) -> float:
        return float(np.linalg.norm(gram / np.linalg.norm(gram) - frame))

    return {
        "nc1": float(np.sum(along / sizes[:rank] ** 2)),
        "within_between_ratio": float(variances.mean() / (np.sum(centred**2) / classes)),
        "cdnv": float(np.mean(np.concatenate(cdnv))),
        "nc2": angle(W @ W.T),
        "nc3": angle(W @ centred.T),
        "gnc2_variance": float(np.var(np.concatenate(energy))),
        "nc5": float(np.mean(np.abs(cosine))),
        "nc4": float(np.mean(np.argmax(H @ W.T, axis=1) != nearest)),
    }


def measure(repeats: int) -> Iterator[dict[str, Any]]:
    """The cases so far, after each."""
    import torch

    runners = {
        "ufm.CollapseTracker": ours,
        "neural-collapse": peer("float32", "pinv"),
        "neural-collapse, svd": peer("float32", "svd"),
        "neural-collapse, float64": peer("float64", "pinv"),
    }
    cases: dict[str, Any] = {}
    for size in SIZES:
        cases[size.label()] = {}
        # With more classes than dimensions nothing is at right angles to the means.
        for kind in KINDS[: 3 if size.num_classes <= size.dim else 2]:
            arrays = data(size, kind)
            tensors = Data(*map(torch.from_numpy, arrays))
            exact = truth(arrays)
            found: dict[str, Any] = {"truth": exact}
            for repeat in range(repeats + 1):
                for name, run in runners.items():
                    begin = time.perf_counter()
                    try:
                        values = run(tensors, size)
                    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
                        found[name] = {"error": str(error).splitlines()[0]}
                        continue
                    entry = found.setdefault(name, {"seconds": [], "values": values})
                    if repeat:
                        entry["seconds"].append(time.perf_counter() - begin)
            cases[size.label()][kind] = found
            print(f"{size.label()}, {kind}: done", flush=True)
            yield cases


def tables(report: dict[str, Any]) -> Iterator[Table]:
    for label, kinds in report["cases"].items():
        for kind, found in kinds.items():
            names = list(found["truth"])
            table = Table("", "seconds", *names, title=f"{label}, {kind}")
            for name, entry in found.items():
                values = entry if name == "truth" else entry.get("values", {})
                took = f"{statistics.median(entry['seconds']):.3g}" if "seconds" in entry else ""
                table.add_row(name, took, *(f"{values[x]:.6g}" if values else "" for x in names))
            yield table


def main() -> None:
    parser = argparse.ArgumentParser(description="Neural collapse of batches of features.")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each")
    parser.add_argument("--table", action="store_true", help="only print tracker.json")
    options = parser.parse_args()
    if not options.table:
        import torch

        report = environment(("ufm", "numpy", "torch", "neural_collapse"))
        report = {"environment": report | {"threads": torch.get_num_threads()}}
        before = os.getloadavg()[0]
        for cases in measure(options.repeats):
            load = {"before": before, "after": os.getloadavg()[0]}
            report |= {"load": load, "cases": cases}
            FILE.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for table in tables(json.loads(FILE.read_text(encoding="utf-8"))):
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
