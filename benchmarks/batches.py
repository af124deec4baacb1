"""Many starts of one problem: one by one, on all cores, `lax.map`, and `vmap` in lock step.

    python benchmarks/batches.py          # writes batches.json

What `solve_many` does on a CPU is the second; on an accelerator it is the last.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from cases import CASES, TOL, Case, environment, seconds
from rich.console import Console
from rich.table import Table

import ufm


def ways(problem: ufm.Problem, starts: ufm.Params) -> dict[str, Callable[[], Any]]:
    """Name → the batch solved that way; every way compiled once."""
    count = starts.W.shape[0]
    separate = [jax.tree.map(lambda x, i=i: x[i], starts) for i in range(count)]

    def solve(start: ufm.Params) -> ufm.Solution:
        return ufm.solve(problem, start, tol=TOL)

    compiled = jax.jit(solve)
    mapped = jax.jit(lambda x: jax.lax.map(solve, x).value)
    vectorised = jax.jit(lambda x: jax.vmap(solve)(x).value)
    return {
        "solve, one by one": lambda: [compiled(start).value for start in separate],
        "solve_many": lambda: ufm.solve_many(problem, starts=starts, tol=TOL).value,
        "lax.map": lambda: mapped(starts),
        "vmap": lambda: vectorised(starts),
    }


def measure(case: Case, count: int, repetitions: int) -> dict[str, list[float]]:
    """Seconds per start of every repetition, warm."""
    problem = case.problem()
    starts = ufm.init_params(problem, jax.random.key(0), num_starts=count)
    work = ways(problem, starts)
    for run in work.values():
        jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, run in work.items():
            times[name].append(seconds(run) / count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to solve from many starts.")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report: dict[str, Any] = {
        "environment": environment(("ufm", "jax", "numpy")),
        "starts": options.starts,
        "cases": {},
    }
    table = Table("ms per start", box=None)
    for number in options.cases:
        times = measure(CASES[number], options.starts, options.repetitions)
        report["cases"][CASES[number].label()] = times
        if len(table.columns) == 1:
            for name in times:
                table.add_column(name)
        medians = (f"{1e3 * statistics.median(values):.1f}" for values in times.values())
        table.add_row(CASES[number].label(), *medians)
    Console(width=110).print(table)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
