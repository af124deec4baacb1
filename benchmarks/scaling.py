"""Time of one run to ‖∇f‖ ≤ 1e-10 against n, K and d, one varied at a time.

    python benchmarks/scaling.py          # writes scaling.json and docs/images/scaling.png

Around K=10, d=16, n=100, cross-entropy, λ=5e-4 scaled so that μ√n stays what it is there. The
best of the repetitions, warm; and the time of one gradient at the same size, for scale.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
from cases import TOL, Case, environment, seconds, starts_of
from matplotlib.figure import Figure

import ufm
from ufm.model.objective import value_and_gradient
from ufm.report import style

BASE = {"num_classes": 10, "dim": 16, "per_class": 100}
VALUES = {
    "per_class": (1, 10, 100, 1_000, 10_000),
    "num_classes": (2, 10, 50, 200),
    "dim": (4, 16, 64, 256, 1_024),
}
NAMES = {"per_class": "samples per class n", "num_classes": "classes K", "dim": "dimension d"}

_gradient = jax.jit(value_and_gradient)
_solve = jax.jit(ufm.solve)


def measure(case: Case, repetitions: int) -> dict[str, Any]:
    problem = case.problem()
    (start,) = starts_of(problem, 1)
    found = _solve(problem, start, tol=TOL)
    runs = [seconds(lambda: _solve(problem, start, tol=TOL).value) for _ in range(repetitions)]
    jax.block_until_ready(_gradient(problem, start))
    gradients = [seconds(lambda: _gradient(problem, start)) for _ in range(repetitions)]
    return {
        "seconds": min(runs),
        "gradient_seconds": min(gradients),
        "steps": int(found.num_steps),
        "products": int(found.num_products),
        "gradient_norm": float(found.grad_norm),
    }


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    with style():
        figure = Figure(figsize=(6.8, 2.3), layout="constrained")
        for axes, (name, entries) in zip(
            figure.subplots(1, 3, sharey=True), results.items(), strict=True
        ):
            values = [int(value) for value in entries]
            axes.loglog(
                values, [e["seconds"] for e in entries.values()], "o-", label="run to 1e-10"
            )
            axes.loglog(
                values,
                [e["gradient_seconds"] for e in entries.values()],
                "s--",
                label="one gradient",
            )
            axes.set_xlabel(NAMES[name])
        figure.axes[0].set_ylabel("seconds")
        figure.axes[0].legend(loc="upper left")
        figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a run against n, K and d.")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/scaling.png"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results: dict[str, dict[str, Any]] = {}
    for name, values in VALUES.items():
        results[name] = {}
        for value in values:
            sizes = BASE | {name: value}
            decay = 5e-4 * (100 / sizes["per_class"]) ** 0.5
            case = Case(ufm.CrossEntropy(), decay=decay, **sizes)
            results[name][str(value)] = found = measure(case, options.repetitions)
            print(f"{NAMES[name]} = {value}: {found['seconds']:.3g} s", flush=True)
    report = {"environment": environment(("ufm", "jax", "numpy")), "scaling": results}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    plot(results, options.figure)


if __name__ == "__main__":
    main()
