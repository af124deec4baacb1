"""Hessian spectra at a global minimum, ours beside what people use today.

    python benchmarks/spectra.py              # writes spectra.json; the dense matrix takes minutes
    python benchmarks/spectra.py --no-dense   # without it: about 2 GB and minutes less
    python benchmarks/spectra.py --table      # the table of spectra.json

At the minimum of cross-entropy with K=10, d=16, n=100, λ_W = λ_H = 5e-4, λ_b = 1e-2: 16,170
dimensions, twelve distinct eigenvalues, the largest nine times, and 99 zeros of rotation. Cold is
the first call in a fresh process, compilation included; warm is the median of repetitions in one
process, methods in turn. Errors are those of the five eigenvalues at an end, with multiplicity, or
of all, relative to the largest; the truth is the closed form, which the dense matrix checks. At the
small end `extremal_eigenpairs` leaves the rotations out, and is held to what remains.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import spectral_peers as peers
import torch
from cases import Case, environment, seconds
from jax.flatten_util import ravel_pytree
from rich.console import Console
from rich.table import Table
from spectral_peers import COUNT, Found, Runner

import ufm
from ufm.model.params import Params

CASE = Case(ufm.CrossEntropy(), 10, 16, 100, 5e-4)
LARGE = Case(ufm.CrossEntropy(), 10, 16, 10_000, 5e-4)
OURS = "ufm.spectrum(problem, params)"
HVP = "ufm.hvp, jitted"
TRUTH = "ufm.spectrum(problem)"
DENSE = "dense matrix, numpy eigvalsh"
COUNTING = "ufm.inertia, N=100,000, random point"
#: What takes longer is timed once.
SLOW = 20.0


def _spectrum(problem: ufm.Problem, point: Params | None) -> Found:
    found = ufm.spectrum(problem, point)
    values = found.expand()
    return Found(values[::-1][:COUNT], values[:COUNT], values, None, found.method)


def _counts(problem: ufm.Problem, point: Params) -> Found:
    found = ufm.inertia(problem, point)
    signs = f"{found.negative} negative, {found.zero} zero, {found.positive} positive"
    return Found(note=signs + ("" if found.reliable else ", not reliable"))


def _extremal(end: str) -> Runner:
    def run(problem: ufm.Problem, point: Params) -> Found:
        found = ufm.extremal_eigenpairs(problem, point, jax.random.key(0), count=COUNT, end=end)
        note = f"{found.deflated} directions of symmetry left out"
        if not found.converged:
            note += ", not converged"
        return Found(**{end: found.values}, products=found.num_products, note=note)

    return run


METHODS: dict[str, Runner] = {
    OURS: _spectrum,
    TRUTH: lambda problem, _: _spectrum(problem, None),
    "ufm.inertia": _counts,
    "ufm.extremal_eigenpairs, largest": _extremal("largest"),
    "ufm.extremal_eigenpairs, smallest": _extremal("smallest"),
    "SciPy eigsh, largest": peers.eigsh_largest,
    "SciPy eigsh of cI − H": peers.eigsh_smallest,
    "SciPy lobpcg, smallest": peers.lobpcg_smallest,
    "curvlinops + eigsh, largest": peers.curvlinops_largest,
    "PyHessian, default": peers.pyhessian_largest(1e-3, 100),
    "PyHessian, tol 1e-9": peers.pyhessian_largest(1e-9, 10_000),
}
LOOP, IN_LOOP = "ufm.hessian_operator, in a loop", 50
PRODUCTS = {
    HVP: lambda *args: lambda: jax.block_until_ready(peers.product(*args)),
    "ufm.hessian_operator": lambda problem, point, x: _our_kept(problem, point, x),
    LOOP: lambda problem, point, x: _our_loop(problem, point, x),
    "curvlinops": lambda problem, point, x: _curvlinops_product(problem, point, x),
    "PyHessian, graph kept": lambda problem, point, x: _pyhessian_product(problem, point, x),
}
MATFREE = "matfree Lanczos, largest"


# Hessian products: each as its library is called, set up once -------------------------------------


def _our_kept(problem: ufm.Problem, point: Params, x: Params) -> Callable[[], Any]:
    """What the point alone decides kept, as PyHessian keeps its graph and our solvers theirs."""
    operator = ufm.hessian_operator(problem, point)
    return lambda: jax.block_until_ready(operator(x))


def _our_loop(problem: ufm.Problem, point: Params, x: Params) -> Callable[[], Any]:
    """IN_LOOP products, each of the last one's result, as methods built on products make them."""
    operator = ufm.hessian_operator(problem, point)

    @jax.jit
    def run(H: ufm.HessianOperator, x: Params) -> Params:
        step = lambda _, x: jax.tree.map(lambda y: 0.5 * y, H(x))  # noqa: E731
        return jax.lax.fori_loop(0, IN_LOOP, step, x)

    return lambda: jax.block_until_ready(run(operator, x))


def _curvlinops_product(problem: ufm.Problem, point: Params, x: Params) -> Callable[[], Any]:
    """Without the decay, which is no part of the operator."""
    operator, _ = peers.curvlinops_operator(problem, point)
    direction = [torch.tensor(np.asarray(leaf)) for leaf in (x.W, x.H, x.b)]
    return lambda: operator @ direction


def _pyhessian_product(problem: ufm.Problem, point: Params, x: Params) -> Callable[[], Any]:
    """With the gradient's graph kept, as its power iteration does."""
    of = peers.pyhessian_of(problem, point)
    direction = [torch.tensor(np.asarray(leaf)) for leaf in (x.W, x.H, x.b)]
    return lambda: peers.pyhessian_product(of.gradsH, of.params, direction)


def measure_products(
    problem: ufm.Problem, point: Params, rounds: int, count: int
) -> dict[str, dict[str, Any]]:
    """Seconds of a product, alternating; PyTorch with one thread and with its default number."""
    x = ufm.init_params(problem, jax.random.key(1))
    work = {name: make(problem, point, x) for name, make in PRODUCTS.items()}
    ours = ravel_pytree(work[HVP]())[0]
    diagonal = peers.curvlinops_operator(problem, point)[1]
    decay = {"curvlinops": diagonal * np.asarray(ravel_pytree(x)[0])}
    threads = sorted({1, torch.get_num_threads()})
    entries: dict[str, dict[str, Any]] = {}
    for name, run in work.items():
        entries[name] = {"difference": None}
        if name == LOOP:
            continue
        flat = ravel_pytree(jax.tree.map(lambda y: np.asarray(y), list(_leaves(run()))))[0]
        difference = np.max(np.abs(flat + decay.get(name, 0.0) - ours)) / np.max(np.abs(ours))
        entries[name]["difference"] = float(difference)
    times: dict[str, dict[str, list[float]]] = {
        name: {str(number): [] for number in threads} for name in work
    }
    for _ in range(rounds):
        for number in threads:
            torch.set_num_threads(number)
            for name, run in work.items():
                times[name][str(number)] += [seconds(run) for _ in range(count)]
    torch.set_num_threads(threads[-1])
    for name, entry in entries.items():
        products = IN_LOOP if name == LOOP else 1
        medians = {n: statistics.median(values) / products for n, values in times[name].items()}
        entry["medians"] = medians
        # Each at its best number of threads; ours has none to choose, and both are the same.
        entry["seconds"] = min(entry["medians"].values())
    return entries


def _leaves(found: Any) -> list[Any]:
    leaves = (found.W, found.H, found.b) if isinstance(found, Params) else found
    return [x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in leaves]


# The measurement ----------------------------------------------------------------------------------


def errors(found: Found, truth: np.ndarray, zeros: int, modulo_zeros: bool) -> dict[str, Any]:
    """Largest error at either end and of everything, relative to the largest eigenvalue."""
    ends = {
        "largest": (found.largest, truth[::-1][:COUNT]),
        "smallest": (found.smallest, (truth[zeros:] if modulo_zeros else truth)[:COUNT]),
    }
    result: dict[str, Any] = {}
    for end, (values, right) in ends.items():
        values = np.asarray(values, float)
        if values.size == 0:
            continue
        scale = abs(truth[-1])
        result[end] = values.tolist()
        result[f"{end}_copies"] = int(np.sum(np.abs(values - right[0]) <= 1e-6 * scale))
        if values.size == COUNT:
            result[f"{end}_error"] = float(np.max(np.abs(values - right)) / scale)
    if found.full is not None:
        result["full_error"] = float(np.max(np.abs(found.full - truth)) / abs(truth[-1]))
    return result


def cold(name: str, point: Params) -> float:
    """Seconds of the first call in a fresh process, imports and the point apart."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "point.npz"
        np.savez(path, W=point.W, H=point.H, b=np.asarray(point.b))
        command = [sys.executable, __file__, "--cold", name, "--point", str(path)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(said.splitlines()[-1])


def first_call(name: str, path: Path) -> float:
    """What `cold` runs in its own process."""
    with np.load(path, allow_pickle=False) as saved:
        point = Params(*(jax.numpy.asarray(saved[key]) for key in ("W", "H", "b")))
    problem = (LARGE if name == COUNTING else CASE).problem()
    jax.block_until_ready(point)
    if name in PRODUCTS:
        x = jax.tree.map(jax.numpy.ones_like, point)
        return seconds(lambda: PRODUCTS[name](problem, point, x)())
    run = runner(name)
    return seconds(lambda: run(problem, point))


def runner(name: str) -> Runner:
    if name.startswith(MATFREE):
        return peers.matfree_largest(int(name.split()[-2]))
    return {**METHODS, COUNTING: _counts}[name]


def timed(run: Runner, problem: ufm.Problem, point: Params) -> tuple[float, Found]:
    begin = time.perf_counter()
    found = run(problem, point)
    return time.perf_counter() - begin, found


def measure(repetitions: int, rounds: int, count: int, with_dense: bool) -> dict[str, Any]:
    problem = CASE.problem()
    point = ufm.global_minimum(problem).params(jax.random.key(0))
    closed = ufm.spectrum(problem)
    truth, zeros = closed.expand(), closed.gauge_dimension
    steps = peers.matfree_steps(problem, point, truth[-1])
    names = [*METHODS, f"{MATFREE}, {steps} steps"]
    methods: dict[str, dict[str, Any]] = {}
    for name in names:
        print(name, flush=True)
        methods[name] = {"cold": cold(name, point), "runs": []}
        _, found = timed(runner(name), problem, point)
        methods[name] |= errors(found, truth, zeros, name.startswith("ufm.extremal"))
        methods[name] |= {"products": found.products, "note": found.note}
    for repetition in range(repetitions):
        for name in names:
            if repetition == 0 or methods[name]["runs"][0] < SLOW:
                methods[name]["runs"].append(timed(runner(name), problem, point)[0])
    products = measure_products(problem, point, rounds, count)
    for name, entry in products.items():
        entry["cold"] = cold(name, point)
    if with_dense:  # last: it takes the memory, and heats the machine
        taken, found = timed(peers.dense, problem, point)
        methods[DENSE] = {"cold": None, "runs": [taken], **errors(found, truth, zeros, False)}
        methods[DENSE] |= {"products": found.products, "note": found.note}
    for entry in methods.values():
        entry["seconds"] = statistics.median(entry["runs"])
    return {
        "dimension": problem.num_parameters,
        "spectrum": [closed.eigenvalues.tolist(), closed.multiplicities.tolist()],
        "methods": methods,
        "products": products,
        "counting": measure_counting(repetitions),
    }


def measure_counting(repetitions: int) -> dict[str, Any]:
    problem = LARGE.problem()
    point = ufm.init_params(problem, jax.random.key(0))
    entry: dict[str, Any] = {"cold": cold(COUNTING, point)}
    entry["note"] = _counts(problem, point).note
    entry["runs"] = [timed(_counts, problem, point)[0] for _ in range(repetitions)]
    entry["seconds"] = statistics.median(entry["runs"])
    return entry


# The table ----------------------------------------------------------------------------------------


def show(report: dict[str, Any], console: Console) -> None:
    methods, products = report["methods"], report["products"]
    base = methods[OURS]["seconds"]
    title = f"{CASE.label()}: {report['dimension']:,} dimensions"
    columns = ("cold s", "warm ms", "× ufm", "products", "error", "copies", "")
    table = Table("spectra", *columns, title=title, box=None)
    for name, entry in methods.items():
        end = next((e for e in ("largest", "smallest") if e in entry), None)
        error = entry.get("full_error", entry.get(f"{end}_error"))
        table.add_row(
            name,
            f"{entry['cold']:.2f}" if entry["cold"] else "–",
            f"{1e3 * entry['seconds']:.3g}",
            f"{entry['seconds'] / base:.3g}",
            f"{entry['products']:,}" if entry["products"] else "–",
            "truth" if name == TRUTH else "–" if error is None else f"{error:.0e}",
            f"{entry[f'{end}_copies']} of {COUNT}" if end else "–",
            entry["note"],
        )
    counting = report["counting"]
    taken = f"{1e3 * counting['seconds']:.3g}"
    table.add_row(COUNTING, f"{counting['cold']:.2f}", taken, "–", "–", "–", "–", counting["note"])
    console.print(table)
    first = products[HVP]["seconds"]
    table = Table("a Hessian product", "cold s", "warm µs", "× ufm", "difference", box=None)
    for name, entry in products.items():
        table.add_row(
            name,
            f"{entry['cold']:.2f}",
            f"{1e6 * entry['seconds']:.0f}",
            f"{entry['seconds'] / first:.1f}",
            "–" if entry["difference"] is None else f"{entry['difference']:.0e}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hessian spectra side by side.")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7, help="of Hessian products")
    parser.add_argument("--count", type=int, default=100, help="Hessian products in a round")
    parser.add_argument("--no-dense", action="store_true", help="not the 2 GB matrix")
    parser.add_argument("--table", action="store_true", help="show what was measured before")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--cold", help=argparse.SUPPRESS)
    parser.add_argument("--point", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    console = Console(width=150)
    if options.table:
        show(json.loads(options.out.read_text(encoding="utf-8")), console)
        return
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)  # cold means cold
    if options.cold:
        print(first_call(options.cold, options.point))
        return
    packages = (
        "ufm", "jax", "numpy", "scipy", "matfree", "torch", "curvlinops-for-pytorch", "pyhessian"
    )  # fmt: skip
    report = {"environment": environment(packages), "case": CASE.label()}
    report |= measure(
        options.repetitions, options.rounds, options.count, with_dense=not options.no_dense
    )
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(report, console)


if __name__ == "__main__":
    main()
