"""The library on an accelerator: one script, eight minutes at most, JAX 0.10 or newer.

    python benchmarks/gpu.py            # writes gpu.json
    python benchmarks/gpu.py --small    # everything at sizes for a CPU, in seconds: does it run?

Hessian products beside the peak of matrix products, a large solve to a proven gap, one network, a
sweep in lock step, and the main job of every loss. Runs are float32, certificates rest on a finish
in float64. The file is written after every part. A part begins only while there is time for one as
long as the longest before it, and past the limit the process ends, whatever it does.
"""

import argparse
import collections
import functools
import itertools
import json
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from cases import Case, environment, seconds
from rich.console import Console
from rich.table import Table
from roofline import measure

import ufm
from ufm.model.objective import matmul
from ufm.networks import TrainConfig, load_data, train
from ufm.networks.data.images import ImageData
from ufm.sweep.problems.cell import Solving
from ufm.sweep.problems.config import KeepTable
from ufm.sweep.runner import Sweep

Found = dict[str, Any]


class Sizes(NamedTuple):
    """How large every part is."""

    #: K, d, n, λ and starts of the main job, and its losses.
    main: tuple[int, int, int, float]
    starts: int
    losses: tuple[str, ...]
    #: K, d, n of Hessian products, and the side of the square matrices of the peak.
    products: tuple[tuple[int, int, int], ...]
    side: int
    #: K, d, n and λ of the large solve.
    large: tuple[int, int, int, float]
    #: Cells of the sweep, over the sizes of the main job, in lock step.
    lanes: int
    network: Found
    #: Source and images of each class.
    data: tuple[str, int | None]
    #: Seconds of one timed loop.
    loop: float


FULL = Sizes(
    main=(10, 16, 100, 5e-4),
    starts=20,
    losses=("ce", "ls:0.1", "fl:3", "mse"),
    products=((1000, 1024, 128), (1000, 1024, 1280)),
    side=8192,
    large=(1000, 1024, 128, 1e-5),
    lanes=64,
    network={"model": "resnet", "epochs": 8},
    data=("fashion-mnist", None),
    loop=1.0,
)
SMALL = Sizes(
    main=(4, 6, 5, 5e-3),
    starts=3,
    losses=("ce",),
    products=((4, 6, 5),),
    side=64,
    large=(4, 6, 5, 5e-3),
    lanes=4,
    network={"width": 8, "depth": 1, "epochs": 4, "batch_size": 10},
    data=("digits", 20),
    loop=1e-3,
)


def problem_of(loss: str, sizes: tuple[int, int, int, float]) -> ufm.Problem:
    classes, dim, per_class, decay = sizes
    return Case(ufm.parse_loss(loss), classes, dim, per_class, decay).problem()


def twice(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result, and the seconds of the first call and of the next."""
    begin = time.perf_counter()
    found = jax.block_until_ready(work())
    return found, {"first": time.perf_counter() - begin, "again": seconds(work)}


# The parts ----------------------------------------------------------------------------------------


def products(size: tuple[int, int, int], sizes: Sizes) -> Found:
    """The Hessian product in float32, in shares of what square matrix products reach."""
    problem = problem_of("ce", (*size, 1e-5))
    points = (_drawn(problem, jax.random.key(i)) for i in range(2))
    found = measure(problem, *points, 3, sizes.loop)
    peak = _peak(sizes.side)
    return {
        "seconds": statistics.median(found["seconds"]["hessian_product"]),
        "gflops": found["gflops"]["hessian_product"],
        "peak_gflops": peak,
        "share_of_peak": found["gflops"]["hessian_product"] / peak,
        "times_of_six_products": found["ratio"],
    }


@jax.jit
def _drawn(problem: ufm.Problem, key: Any) -> ufm.Params:
    """A point in float32 that is drawn on the device: it may have 10⁹ numbers."""
    return ufm.init_params(problem, key, dtype=jnp.float32)


@functools.cache
def _peak(side: int) -> float:
    """GFLOP/s of square products in float32, at the precision that the library asks for."""
    A = jax.random.normal(jax.random.key(0), (side, side), jnp.float32) / side**0.5

    @jax.jit
    def chain(x: Any) -> Any:
        return jax.lax.fori_loop(0, 10, lambda _, y: matmul(A, y), x)

    chain(A)
    taken = min(seconds(lambda: chain(A)) for _ in range(3))
    return 20.0 * side**3 / taken / 1e9


def large_solve(sizes: Sizes) -> Found:
    """A solve in float32 and its finish in float64, until the gap is proven to be 1e-6."""
    problem = problem_of("ce", sizes.large)
    start = _drawn(problem, jax.random.key(0))
    rough, first = _timed(lambda: ufm.solve(problem, start))
    finish, second = _timed(lambda: ufm.polish(problem, rough))
    proof, third = _timed(lambda: ufm.certify(problem, finish.params, tol=1e-6))
    return {
        "solve": first,
        "polish": second,
        "certify": third,
        "products": int(finish.num_products),
        "status": ufm.Status(int(finish.status)).name,
        "verdict": ufm.Verdict(int(proof.verdict)).name,
        "relative_gap": float(proof.gap / proof.depth),
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    found = jax.block_until_ready(work())
    return found, time.perf_counter() - begin


def network(sizes: Sizes) -> Found:
    """A network whose epochs are one program each: the first epoch, and the median of the next."""
    data = _images(*sizes.data)
    ends = [time.perf_counter()]
    found = train(
        TrainConfig(**sizes.network, measurements=1),
        data,
        on_epoch=lambda _: ends.append(time.perf_counter()),
    )
    # Measured after the first epoch and the last.
    each = statistics.median(b - a for a, b in itertools.pairwise(ends[1:-1]))
    return {
        "data": data.name,
        "first_epoch": ends[1] - ends[0],
        "epoch": each,
        "images_per_second": len(data.labels) / each,
        "status": str(found.status),
        "train_accuracy": float(found.history["train_accuracy"][-1]),
        "nc1": float(found.history["nc1"][-1]),
    }


def _images(source: str, per_class: int | None) -> ImageData:
    """The images asked for, or digits where they are not on this machine."""
    try:
        return load_data(source, per_class)
    except ValueError:
        return load_data("digits")


def sweep(sizes: Sizes) -> Found:
    """Cells over the decay that are solved in lock step, each certified."""
    classes, dim, per_class, decay = sizes.main
    decays = {"from": decay, "to": 10 * decay, "num": sizes.lanes, "spacing": "log"}
    table = {"num_classes": classes, "per_class": per_class, "dim": dim, "lam_w": decays}
    cells = Sweep.of({"loss": ["ce"], "problem": table | {"lam_h": "lam_w"}}).cells
    work = Solving(KeepTable(), lock_step=sizes.lanes)
    records, taken = twice(lambda: work.run(cells))
    return {
        "first": taken["first"],
        "again": taken["again"],
        "cells_per_second": len(cells) / taken["again"],
        "verdicts": _counted(record.row["verdict"] for record in records),
    }


def main_job(loss: str, sizes: Sizes) -> Found:
    """Many starts in float32, measured and certified there, and again after the finish."""
    problem = problem_of(loss, sizes.main)
    starts = ufm.init_params(problem, jax.random.key(0), num_starts=sizes.starts, dtype=jnp.float32)
    found: Found = {}
    rough, found["solve"] = twice(lambda: ufm.solve_many(problem, starts=starts))
    finish, found["polish"] = twice(lambda: ufm.polish(problem, rough))
    for name, points in (("float32", rough.params), ("float64", finish.params)):
        proofs, taken = twice(lambda x=points: jax.vmap(lambda p: ufm.certify(problem, p))(x))
        metrics, measured = twice(
            lambda x=points: jax.vmap(lambda p: ufm.nc_metrics(problem, p))(x)
        )
        found[name] = {
            "certify": taken,
            "nc_metrics": measured,
            "verdicts": _counted(ufm.Verdict(int(code)).name for code in proofs.verdict),
            "relative_gap": float(jnp.max(proofs.gap / proofs.depth)),
            "nc1": float(jnp.max(metrics.nc1)),
        }
    return found


def _counted(names: Any) -> dict[str, int]:
    return dict(collections.Counter(names))


# The script ---------------------------------------------------------------------------------------


def parts_of(sizes: Sizes) -> dict[str, Callable[[], Found]]:
    """The parts by name, those first that need an accelerator most."""
    parts: dict[str, Callable[[], Found]] = {}
    for size in sizes.products:
        label = "Hessian product, K={}, d={}, n={}".format(*size)
        parts[label] = functools.partial(products, size, sizes)
    parts["solve to a gap of 1e-6, K={}, d={}, n={}".format(*sizes.large)] = functools.partial(
        large_solve, sizes
    )
    parts["network"] = functools.partial(network, sizes)
    parts[f"sweep, {sizes.lanes} in lock step"] = functools.partial(sweep, sizes)
    for loss in sizes.losses:
        parts[f"{sizes.starts} starts, {loss}"] = functools.partial(main_job, loss, sizes)
    return parts


def flat(found: Found, prefix: str = "") -> dict[str, str]:
    """Numbers of nested results, as text."""
    lines: dict[str, str] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            lines |= flat(value, f"{prefix}{name} ")
        else:
            lines[prefix + name] = f"{value:.3g}" if isinstance(value, float) else str(value)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="The library on an accelerator.")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="the longest that it may take")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    begin, limit = time.perf_counter(), 60.0 * options.minutes
    signal.setitimer(signal.ITIMER_REAL, limit)  # unhandled, its signal ends the process
    jax.config.update("jax_enable_x64", True)
    report: dict[str, Any] = {
        "environment": environment(("ufm", "jax", "numpy")),
        "small": options.small,
        "parts": {},
    }
    longest, table = 0.0, Table("part", "s", "found", box=None)
    for name, part in parts_of(SMALL if options.small else FULL).items():
        before = time.perf_counter()
        if before - begin + longest > limit:
            found: Found = {"error": "not begun: the time is nearly over"}
        else:
            try:
                found = part()
            except jax.errors.JaxRuntimeError as error:  # such as for want of memory
                found = {"error": str(error).splitlines()[0]}
        taken = time.perf_counter() - before
        longest = max(longest, taken)
        report["parts"][name] = found | {"seconds_in_all": taken}
        report["seconds"] = time.perf_counter() - begin
        options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: {taken:.1f} s", flush=True)
        text = ", ".join(f"{key} {value}" for key, value in flat(found).items())
        table.add_row(name, f"{taken:.1f}", text)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
