"""What the benchmarks share: the problems, the environment, and how time is taken."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

import ufm

#: ‖∇f‖ that every run is asked for.
TOL = 1e-10


class Case(NamedTuple):
    """A balanced problem with λ_W = λ_H = λ and λ_b = 1e-2."""

    loss: ufm.Loss
    num_classes: int
    dim: int
    per_class: int
    decay: float

    def problem(self) -> ufm.Problem:
        return ufm.Problem.balanced(
            loss=self.loss, num_classes=self.num_classes, dim=self.dim, per_class=self.per_class,
            lam_w=self.decay, lam_h=self.decay, lam_b=1e-2,
        )  # fmt: skip

    def label(self) -> str:
        return (
            f"{self.loss.label()}, K={self.num_classes}, d={self.dim}, n={self.per_class}, "
            f"λ={self.decay:g}"
        )


CASES = (
    Case(ufm.MSE(), 4, 64, 100, 5e-4),
    Case(ufm.CrossEntropy(), 10, 16, 100, 5e-4),
    Case(ufm.CrossEntropy(), 10, 16, 100, 5e-6),
    Case(ufm.CrossEntropy(), 50, 64, 20, 1e-5),
    Case(ufm.CrossEntropy(), 100, 128, 50, 1e-5),
)


def starts_of(problem: ufm.Problem, count: int) -> list[ufm.Params]:
    """The same random starts for everybody."""
    batch = ufm.init_params(problem, jax.random.key(0), num_starts=count)
    return [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(count)]


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call, results waited for."""
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin


def environment(packages: Iterable[str]) -> dict[str, Any]:
    """Versions and machine, to be written beside the numbers."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return versions | {
        "python": platform.python_version(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "cpu": _cpu(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
