"""How close the Hessian product comes to the matrix products that it is made of.

    python benchmarks/roofline.py
    python benchmarks/roofline.py --sizes 1000,1024,128 --float32        # for an accelerator

A product with the Hessian is six products of a K×d, d×N or K×N matrix. Both are run many times in
one compiled loop, in turn; the ratio of medians and the GFLOP/s are written to roofline.json.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from cases import Case, environment, seconds
from rich.console import Console
from rich.table import Table

import ufm
from ufm.model.hessian_product import hessian_product, linearise
from ufm.model.objective import matmul
from ufm.model.params import Params

SIZES = ("10,16,100", "50,64,20", "100,128,50", "100,512,100")


@jax.jit
def _products(problem: ufm.Problem, point: Params, direction: Params, count: Any) -> Params:
    """Hessian products in a row, each of the last one's result."""
    at = linearise(problem, point)

    def body(_: Any, x: Params) -> Params:
        return jax.tree.map(lambda y: 0.5 * y, hessian_product(problem, at, x))

    return jax.lax.fori_loop(0, count, body, direction)


@jax.jit
def _matmuls(point: Params, direction: Params, G: Any, count: Any) -> Params:
    """The six matrix products alone, of the same shapes and in the same order."""
    W, H = point.W, point.H

    def body(_: Any, x: Params) -> Params:
        change = matmul(x.W, H) + matmul(W, x.H)
        return Params(
            0.5 * (matmul(change, H.T) + matmul(G, x.H.T)),
            0.5 * (matmul(W.T, change) + matmul(x.W.T, G)),
            x.b,
        )

    return jax.lax.fori_loop(0, count, body, direction)


def measure(
    problem: ufm.Problem, point: Params, direction: Params, repetitions: int, target: float
) -> dict[str, Any]:
    """Seconds of a product and of its matrix products, and GFLOP/s of both."""
    G = linearise(problem, point).G
    work = {
        "hessian_product": lambda n: _products(problem, point, direction, n),
        "six_matmuls": lambda n: _matmuls(point, direction, G, n),
    }
    one = jnp.int32(1)
    for run in work.values():
        jax.block_until_ready(run(one))
    count = jnp.int32(max(2, min(2_000, target / seconds(lambda: work["six_matmuls"](one)))))
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, run in work.items():
            times[name].append(seconds(lambda run=run: run(count)) / int(count))
    flops = 12.0 * problem.num_classes * problem.dim * problem.num_columns
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "seconds": times,
        "count": int(count),
        "gflops": {name: flops / value / 1e9 for name, value in median.items()},
        "ratio": median["hessian_product"] / median["six_matmuls"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The Hessian product beside its matrix products.")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), help="K,d,n")
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one timed loop")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", not options.float32)
    dtype = jnp.float32 if options.float32 else jnp.float64
    report: dict[str, Any] = {
        "environment": environment(("ufm", "jax", "numpy")),
        "dtype": jnp.dtype(dtype).name,
        "sizes": {},
    }
    table = Table("K, d, n", "Hessian product", "six matmuls", "time ratio", box=None)
    for size in options.sizes:
        classes, dim, per_class = (int(x) for x in size.split(","))
        case = Case(ufm.CrossEntropy(), classes, dim, per_class, 1e-5)
        problem = case.problem()
        point, direction = (
            ufm.init_params(problem, jax.random.key(i), dtype=dtype) for i in range(2)
        )
        found = measure(problem, point, direction, options.repetitions, options.seconds)
        report["sizes"][size] = found
        rates = (f"{found['gflops'][name]:.1f} GFLOP/s" for name in found["gflops"])
        table.add_row(size.replace(",", ", "), *rates, f"{found['ratio']:.2f}")
    Console(width=100).print(table)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
