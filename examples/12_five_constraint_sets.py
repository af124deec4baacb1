"""The same data under five constraint sets: which frame is optimal, and how is it proven?

Weight decay, features after a ReLU, unit spheres with a temperature, norm budgets (layer-peeled),
and a fixed classifier. The runs end at proven global minima; cosines of the class means, which are
not centred, tell a simplex ETF from an orthogonal frame, as NC1–NC3 do not.

    python examples/12_five_constraint_sets.py            # K = 5, balanced and imbalanced classes
    python examples/12_five_constraint_sets.py --quick    # K = 3, 3 starts
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

import ufm
from ufm.report import style
from ufm.variants.nonnegative import merged_solve

DECAY = 5e-3
#: A set of each factor, with its weight decay where it has one.
NONE: dict[str, Any] = {"lam_w": None, "lam_h": None}
TEMPERATURE = 0.5
COSINES = Normalize(-1, 1)


def sets(classes: int, dim: int) -> dict[str, dict[str, Any]]:
    """The arguments of a problem for each constraint set."""
    frame = ufm.simplex_etf(jax.random.key(1), classes, dim)
    decays = {"lam_w": DECAY, "lam_h": DECAY}
    sphere, budget = ufm.Sphere(), ufm.Budget(1.0)
    return {
        "weight decay": decays,
        "ReLU features": {**decays, "features": ufm.NonNegative()},
        "unit spheres": {
            **NONE, "classifier": sphere, "features": sphere, "temperature": TEMPERATURE
        },
        "norm budgets": {**NONE, "classifier": budget, "features": ufm.Budget(5.0)},
        "fixed simplex ETF": {**decays, "lam_w": None, "classifier": ufm.Fixed(frame)},
    }  # fmt: skip


def cosines(problem: ufm.Problem, point: ufm.Params) -> np.ndarray:
    """Cosines between the class means of the features, which are not centred."""
    H = np.asarray(point.H)
    means = np.stack([H[:, problem.labels == k].mean(axis=1) for k in range(problem.num_classes)])
    sizes = np.linalg.norm(means, axis=1)
    with np.errstate(invalid="ignore"):  # a class without features has no angles
        return (means @ means.T) / np.outer(sizes, sizes)


def solved(problem: ufm.Problem, name: str, starts: int) -> tuple[np.ndarray, float]:
    """Cosines and value of the best of several certified runs, led out of a local minimum."""
    found = ufm.verify(problem, jax.random.key(0), starts)
    best = int(np.argmin(np.asarray(found.solutions.value)))
    point = jax.tree.map(lambda x: x[best], found.solutions.params)
    certificate = ufm.certify(problem, point)
    print(f"  {name:<18} proven {found.num_global}/{starts}", end="")
    if certificate.verdict is ufm.Verdict.LOCAL_MINIMUM:
        print(f", best run a local minimum at f = {float(certificate.value):.6f}, led out", end="")
        point = merged_solve(problem, point).params
        certificate = ufm.certify(problem, point)
    seen = cosines(problem, point)
    between = seen[~np.eye(len(seen), dtype=bool)]
    print(
        f"\n    f = {float(certificate.value):.9f}, {certificate.verdict.name}, gap "
        f"{float(certificate.gap):.1e}, cosines {between.min():+.3f} to {between.max():+.3f}"
    )
    return seen, float(certificate.value)


def draw(rows: dict[str, dict[str, tuple[np.ndarray, float]]], path: Path) -> None:
    with style():
        _draw(rows).savefig(path)
    print(f"Figure: {path}")


def _draw(rows: dict[str, dict[str, tuple[np.ndarray, float]]]) -> Figure:
    names = list(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows), len(names), figsize=(7.2, 0.3 + 1.5 * len(rows)), layout="constrained"
    )
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(name)
    for line, (title, found) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(title)
        for ax, (seen, value) in zip(line, found.values(), strict=True):
            ax.imshow(seen, cmap="RdBu_r", norm=COSINES)
            ax.set(xticks=[], yticks=[], xlabel=f"$f$ = {value:.4f}")
    colours = ScalarMappable(COSINES, "RdBu_r")
    figure.colorbar(colours, ax=axes, label="cosine of class means", shrink=0.8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="The same data under five constraint sets.")
    parser.add_argument("--quick", action="store_true", help="K = 3 and 3 starts")
    parser.add_argument("--figure", type=Path, default=Path("constraint-sets.png"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    classes, starts = (3, 3) if options.quick else (5, 10)
    dim = classes + 1
    counts = {"balanced": (10,) * classes, "imbalanced": (20,) * (classes - 2) + (2, 2)}
    rows = {}
    for title, sizes in counts.items():
        print(f"{title}: {sizes} samples")
        rows[title] = {
            name: solved(
                ufm.Problem(ufm.CrossEntropy(), sizes, dim, lam_b=None, **given), name, starts
            )
            for name, given in sets(classes, dim).items()
        }
    draw(rows, options.figure)


if __name__ == "__main__":
    main()
