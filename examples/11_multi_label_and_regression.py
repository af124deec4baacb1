"""The last layer when targets are not classes: label sets, numbers, soft labels.

Groups of samples have a target each: the indicator of a set of labels, a vector of numbers, or the
probabilities of a teacher. Every run is certified, and its geometry compared with the theory: means
of label sets are scaled sums of those of their labels, and the classifier of a regression follows
the covariance of the targets, without directions of little variance.

    python examples/11_multi_label_and_regression.py            # 10 starts
    python examples/11_multi_label_and_regression.py --quick    # 3 starts of small problems
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import ufm
from ufm.report import style

DECAY = 5e-3


def label_sets(labels: int, samples: dict[int, int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """The indicators of all sets of each size, and the number of samples of each."""
    rows, counts = [], []
    for size, count in samples.items():
        for chosen in itertools.combinations(range(labels), size):
            rows.append(np.isin(np.arange(labels), chosen).astype(float))
            counts.append(count)
    return np.array(rows), tuple(counts)


def solved(problem: ufm.Problem, starts: int) -> tuple[Any, ufm.GlobalMinimum]:
    """Run from random starts, and say how they ended; the best point."""
    found = ufm.verify(problem, jax.random.key(0), starts)
    best = int(np.argmin(np.asarray(found.solutions.value)))
    value = float(found.solutions.value[best])
    print(f"  {found.num_global}/{starts} proven global minima, f = {value:.9f}")
    print(f"  theory: {found.minimum.value:.9f} ({found.minimum.reason})")
    return jax.tree.map(lambda x: x[best], found.solutions.params), found.minimum


# Multi-label --------------------------------------------------------------------------------------


def multi_label(labels: int, starts: int) -> None:
    print(f"{labels} labels; every label and every pair of labels has samples")
    targets, counts = label_sets(labels, {1: 5, 2: 2})
    problem = ufm.Problem(
        ufm.CrossEntropy(), counts, labels + 2, DECAY, DECAY, None, targets=targets
    )
    point, minimum = solved(problem, starts)
    metrics = ufm.target_metrics(problem, point)
    print(f"  means of pairs are sums of their labels' means: {metrics.tag_average:.1e}")
    one, two = (minimum.logits[:, i].max() - minimum.logits[:, i].min() for i in (0, -1))
    print(f"  margins: {one:.4f} for single labels, {two:.4f} for pairs")


# Regression ---------------------------------------------------------------------------------------


def regression(samples: int, starts: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Eigenvalues of the target covariance, decays, and singular values of the classifier."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((samples, 3)) @ np.diag([2.0, 1.0, 0.3])
    spread = np.linalg.eigvalsh(np.cov(targets.T, ddof=0))[::-1]
    print(f"Regression on 3 numbers, target variances {np.array2string(spread, precision=3)}")
    scale = float(spread[0]) ** 0.5 / samples**0.5  # the decay at which all directions are dead
    decays, sizes = scale * np.geomspace(1e-2, 1.1, 80), []
    for decay in decays:
        problem = regression_problem(targets, float(decay))
        sizes.append(np.linalg.svd(np.asarray(ufm.global_minimum(problem).params(None).W))[1])
    problem = regression_problem(targets, scale / 4)
    point, _ = solved(problem, starts)
    metrics = ufm.target_metrics(problem, point)
    print(f"  NRC1 {metrics.nrc1:.1e}, NRC2 {metrics.nrc2:.1e}, NRC3 {metrics.nrc3:.1e}")
    return spread, decays, sizes


def regression_problem(targets: np.ndarray, decay: float) -> ufm.Problem:
    """One sample for each target, with a free bias."""
    return ufm.Problem(ufm.MSE(), (1,) * len(targets), 5, decay, decay, 0.0, targets=targets)


def draw(
    spread: np.ndarray, decays: np.ndarray, sizes: list[np.ndarray], samples: int, path: Path
) -> None:
    with style():
        _draw(spread, decays, sizes, samples).savefig(path)
    print(f"Figure: {path}")


def _draw(spread: np.ndarray, decays: np.ndarray, sizes: list[np.ndarray], samples: int) -> Figure:
    figure, axes = plt.subplots(figsize=(4.4, 3.3), layout="constrained")
    for j, (line, variance) in enumerate(zip(("-", "--", "-."), spread, strict=True)):
        label = f"variance {variance:.2g}"
        axes.plot(decays, [x[j] for x in sizes], line, color=f"C{j}", label=label)
        dead = variance**0.5 / samples**0.5
        axes.plot([dead], [0], "o", color=f"C{j}", clip_on=False, zorder=3)
    axes.set(xscale="log", xlabel=r"decay $\mu$", ylabel="singular values of $W$", ylim=(0, None))
    # Dots: μ = √(variance/N), where the direction dies.
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


# Soft targets -------------------------------------------------------------------------------------


def distillation(starts: int) -> None:
    """A teacher's probabilities: logits stay finite as the decay vanishes."""
    print("Probabilities of a teacher, 6 groups of samples and 4 classes")
    targets = np.random.default_rng(1).dirichlet(np.ones(4), 6)
    for decay in (DECAY, 1e-7):
        print(f"  decay {decay:g}")
        problem = ufm.Problem(ufm.CrossEntropy(), (10,) * 6, 5, decay, decay, None, targets=targets)
        point, _ = solved(problem, starts)
        logits = np.asarray(point.W @ point.H)[:, ::10]
        teacher = np.log(targets.T)
        distance = np.abs((logits - logits.mean(0)) - (teacher - teacher.mean(0))).max()
        print(f"  largest distance of logits from the teacher's: {distance:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Label sets, numbers and soft labels as targets.")
    parser.add_argument("--quick", action="store_true", help="3 starts of small problems")
    parser.add_argument("--figure", type=Path, default=Path("regression.png"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    starts = 3 if options.quick else 10
    multi_label(3 if options.quick else 5, starts)
    samples = 20 if options.quick else 100
    draw(*regression(samples, starts), samples, options.figure)
    distillation(starts)


if __name__ == "__main__":
    main()
