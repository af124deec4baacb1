"""Time to ‖∇f‖ ≤ 1e-10 from the same random starts, ours beside what a script would use.

    python benchmarks/solvers.py       # prints the table, writes benchmarks/solvers.json

All in one process, methods in turn within every repetition, so that ratios hold when the machine's
speed drifts. Cold is the first call, compilation included; warm is the median over repetitions of
the mean time per start. A method that does not reach the tolerance is marked with where it ended.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import ufm
from ufm.problem import norm, value_and_gradient

CASES = {
    "MSE K=4 d=64 n=100 λ=5e-4": (ufm.MSE(), 4, 64, 100, 5e-4),
    "CE K=10 d=16 n=100 λ=5e-4": (ufm.CrossEntropy(), 10, 16, 100, 5e-4),
    "CE K=10 d=16 n=100 λ=5e-6": (ufm.CrossEntropy(), 10, 16, 100, 5e-6),
    "CE K=50 d=64 n=20 λ=1e-5": (ufm.CrossEntropy(), 50, 64, 20, 1e-5),
}
TOL = 1e-10
Runner = Callable[[Any, Any], float]


def ours(method: str) -> Runner:
    """Gradient norm at the end of `ufm.solve`."""

    def run(problem: Any, start: Any) -> float:
        return float(ufm.solve(problem, start, method=method, tol=TOL).grad_norm)

    return run


_compiled = jax.jit(value_and_gradient)
_product = jax.jit(ufm.hvp)


def scipy_method(method: str, options: dict[str, Any]) -> Runner:
    """SciPy over jitted derivatives, asked for the same gradient norm."""

    def run(problem: Any, start: Any) -> float:
        flat, unravel = ravel_pytree(start)

        def value(x: Any) -> tuple[float, Any]:
            f, g = _compiled(problem, unravel(x))
            return float(f), np.asarray(ravel_pytree(g)[0])

        def product(x: Any, d: Any) -> Any:
            return np.asarray(ravel_pytree(_product(problem, unravel(x), unravel(d)))[0])

        second = {"hessp": product} if method.startswith("trust") else {}
        # SciPy's BLAS threads fight XLA's for the same cores: uncapped it is tens of times slower.
        with threadpool_limits(1):
            found = scipy.optimize.minimize(
                value, np.asarray(flat), jac=True, method=method, options=options, **second
            )
        return float(norm(_compiled(problem, unravel(found.x))[1]))

    return run


METHODS: dict[str, Runner] = {
    "ufm newton": ours("newton"),
    "ufm gradient_descent": ours("gradient_descent"),
    "ufm lbfgs (optax)": ours("lbfgs"),
    "SciPy L-BFGS-B": scipy_method(
        "L-BFGS-B", {"gtol": 1e-12, "ftol": 0.0, "maxiter": 20_000, "maxfun": 40_000}
    ),
    "SciPy trust-ncg": scipy_method("trust-ncg", {"gtol": TOL, "maxiter": 2_000}),
}


def measure(case: tuple[Any, ...], starts: int, repetitions: int) -> dict[str, Any]:
    """Cold and warm seconds per start, and the worst gradient norm, of every method."""
    loss, classes, dim, per_class, lam = case
    problem = ufm.Problem.balanced(
        loss=loss, num_classes=classes, dim=dim, per_class=per_class,
        lam_w=lam, lam_h=lam, lam_b=1e-2,
    )  # fmt: skip
    batch = ufm.init_params(problem, jax.random.key(0), num_starts=starts)
    points = [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(starts)]
    results: dict[str, Any] = {}
    for name, run in METHODS.items():
        begin = time.perf_counter()
        run(problem, points[0])
        results[name] = {"cold": time.perf_counter() - begin, "warm": [], "worst": 0.0}
    for _ in range(repetitions):
        for name, run in METHODS.items():
            begin = time.perf_counter()
            worst = max(run(problem, point) for point in points)
            entry = results[name]
            entry["warm"].append((time.perf_counter() - begin) / starts)
            entry["worst"] = max(entry["worst"], worst)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Solvers side by side.")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)  # cold means cold
    names = ("ufm", "jax", "numpy", "scipy", "optax")
    report: dict[str, Any] = {
        "environment": {name: importlib.metadata.version(name) for name in names}
        | {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": _cpu()},
        "tol": TOL,
        "starts": options.starts,
        "repetitions": options.repetitions,
        "cases": {},
    }
    for label, case in CASES.items():
        results = measure(case, options.starts, options.repetitions)
        report["cases"][label] = results
        show(label, results)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def show(label: str, results: dict[str, Any]) -> None:
    table = Table("method", "cold s", "warm ms", "× newton", "worst ‖∇f‖", title=label, box=None)
    base = statistics.median(results["ufm newton"]["warm"])
    for name, entry in results.items():
        warm = statistics.median(entry["warm"])
        reached = "" if entry["worst"] <= TOL else "  short of it"
        table.add_row(
            name, f"{entry['cold']:.2f}", f"{1e3 * warm:.1f}", f"{warm / base:.1f}",
            f"{entry['worst']:.1e}{reached}",
        )  # fmt: skip
    Console(width=100).print(table)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


if __name__ == "__main__":
    main()
