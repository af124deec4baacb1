"""Time to the first answer: a fresh process, no cache of compiled programs, one run or twenty.

    python benchmarks/first_answer.py          # writes first_answer.json; ten minutes, idle machine

Every contender answers in a process of its own, all in turn within every repetition, from the same
starts to the same ‖∇f‖; the gradient at the points they return is taken here, in NumPy. Then the
tour of the library, step by step, in times of a cold optax L-BFGS of the same process.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cases import CASES, Case, environment
from cold import CONTENDERS, Task, value_and_gradient
from rich.console import Console
from rich.table import Table

import ufm

CASE: Case = CASES[1]
#: ‖∇f‖ that everybody is asked for.
TOL = 1e-8
STARTS = (1, 20)
#: A contender that takes longer, in seconds, is measured once.
SLOW = 20.0
HERE = Path(__file__).parent
#: Ratios and compiled programs of version 0.1 on the same machine.
VERSION_0_1 = {
    "init_params": (0.37, 4),
    "solve": (2.10, 8),
    "certify": (1.01, 1),
    "global_minimum": (1.38, 16),
    "nc_metrics": (0.23, 1),
    "spectrum": (1.75, 65),
    "inertia": (1.25, 3),
    "tour": (8.1, 98),
    "another n: solve": (2.00, None),
    "another n: certify": (1.05, None),
}


def fresh(*command: str) -> tuple[dict[str, Any], float]:
    """What a new process without a cache prints as JSON, and its seconds from start to end."""
    mine = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    begin = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, *command], env=mine, cwd=HERE, capture_output=True, text=True
    )
    seconds = time.perf_counter() - begin
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1]), seconds


def starts_file(folder: Path, count: int) -> Path:
    """The task as a file: labels, decays, tolerance and starts."""
    problem = CASE.problem()
    starts = ufm.init_params(problem, jax.random.key(0), num_starts=count)
    path = folder / f"starts-{count}.npz"
    decays = np.array([CASE.decay, CASE.decay, 1e-2])
    np.savez(
        path, W=starts.W, H=starts.H, b=starts.b, labels=problem.labels.astype(np.int64),
        decays=decays, tol=TOL,
    )  # fmt: skip
    return path


def worst_gradient(given: Path, reached: Path) -> tuple[float, int]:
    """The largest ‖∇f‖ of the points reached, and how many are at the tolerance."""
    with np.load(given) as file, np.load(reached) as points:
        task = Task(file["labels"], tuple(file["decays"]), TOL, [], 0.0)
        triples = zip(points["W"], points["H"], points["b"], strict=True)
        norms = [
            np.sqrt(sum((g**2).sum() for g in value_and_gradient(task, *x)[1])) for x in triples
        ]
    return float(max(norms)), sum(bool(norm <= TOL) for norm in norms)


def contend(name: str, given: Path, limit: float, into: dict[str, Any]) -> None:
    """One answer in one fresh process, added to what is there."""
    reached = given.with_name("reached.npz")
    found, process = fresh("cold.py", name, str(given), str(reached), str(limit))
    norm, arrived = worst_gradient(given, reached)
    into.setdefault("import", []).append(found["import"])
    into.setdefault("answer", []).append(found["answer"])
    into.setdefault("process", []).append(process)
    into["gradient_norm"] = max(norm, into.get("gradient_norm", 0.0))
    into["arrived"] = min(arrived, into.get("arrived", arrived))


def race(repetitions: int, limit: float, console: Console) -> dict[str, Any]:
    """Name → number of starts → what every repetition took."""
    found: dict[str, dict[str, Any]] = {}
    for name, (needs, _) in CONTENDERS.items():
        missing = [x for x in needs if importlib.util.find_spec(x) is None]
        if missing:
            console.print(f"{name} is left out: {missing[0]} is not installed")
        else:
            found[name] = {str(count): {} for count in STARTS}
    with tempfile.TemporaryDirectory() as folder:
        files = {str(count): starts_file(Path(folder), count) for count in STARTS}
        for _ in range(repetitions):
            for name, counts in found.items():
                for count, into in counts.items():
                    if not into or into["answer"][0] < SLOW:
                        contend(name, files[count], limit, into)
    return found


def tour(repetitions: int) -> dict[str, Any]:
    """Medians of every step: seconds, ratio to the L-BFGS of its process, programs compiled."""
    runs = [fresh("tour.py")[0] for _ in range(repetitions)]
    # The first run fills the folder.
    with tempfile.TemporaryDirectory() as folder:
        cached = [fresh("tour.py", folder)[0] for _ in range(repetitions + 1)][1:]
    for run in (*runs, *cached):
        steps = [x for name, x in run.items() if name in VERSION_0_1 and "another" not in name]
        run["tour"] = {key: sum(x[key] for x in steps) for key in ("seconds", "programs")}
    return {
        name: {
            "seconds": [run[name]["seconds"] for run in runs],
            "ratio": statistics.median(
                run[name]["seconds"] / run["optax L-BFGS"]["seconds"] for run in runs
            ),
            "programs": runs[0][name]["programs"],
            "cached_seconds": [run[name]["seconds"] for run in cached],
        }
        for name in runs[0]
    }


def show(report: dict[str, Any], console: Console) -> None:
    table = Table("contender", box=None, title=f"{report['case']}, ‖∇f‖ ≤ {TOL:g}, cold")
    for count in STARTS:
        for head in ("import s", f"{count} start{'s'[: count > 1]} s", "process s", "worst ‖∇f‖"):
            table.add_column(head, justify="right")
    for name, counts in report["contenders"].items():
        cells: list[str] = []
        for count, entry in counts.items():
            times = [statistics.median(entry[key]) for key in ("import", "answer", "process")]
            short = "" if entry["arrived"] == int(count) else f" ({entry['arrived']} arrived)"
            cells += [*(f"{x:.2f}" for x in times), f"{entry['gradient_norm']:.0e}{short}"]
        table.add_row(name, *cells)
    console.print(table)
    table = Table("step", "s", "ratio", "programs", "0.1", "programs", "cached s", box=None)
    for name, entry in report["tour"].items():
        ratio, programs = VERSION_0_1.get(name, ("", ""))
        table.add_row(
            name,
            f"{statistics.median(entry['seconds']):.2f}",
            f"{entry['ratio']:.2f}",
            str(entry["programs"]),
            str(ratio),
            str(programs or ""),
            f"{statistics.median(entry['cached_seconds']):.2f}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to the first answer.")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for an answer")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    console = Console(width=130)
    packages = ("ufm", "jax", "numpy", "scipy", "optax", "optimistix", "torch")
    installed = [name for name in packages if importlib.util.find_spec(name)]
    report: dict[str, Any] = {
        "environment": environment(installed),
        "load": {"before": os.getloadavg()[0]},
        "case": CASE.label(),
        "tol": TOL,
        "limit": options.limit,
        "repetitions": options.repetitions,
        "contenders": race(options.repetitions, options.limit, console),
        "tour": tour(options.repetitions),
        "version 0.1": {
            name: {"ratio": ratio, "programs": programs}
            for name, (ratio, programs) in VERSION_0_1.items()
        },
    }
    report["load"]["after"] = os.getloadavg()[0]
    show(report, console)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
