"""The tour of the library in one fresh process: seconds and compiled programs of every step.

    python benchmarks/tour.py            # without a cache on disk; first_answer.py calls this
    python benchmarks/tour.py FOLDER     # with one

With a cold run of optax's L-BFGS on the same problem, by whose time others divide. Prints JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from cold import optax_loop

#: K, d, n of the tour, and the n of the last steps, which no program was compiled for.
SIZES, OTHER = (10, 16, 100), 37


class Steps:
    """Runs steps, and keeps what each took."""

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, float]] = {}
        self.programs = 0

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        before, begin = self.programs, time.perf_counter()
        found = work()
        seconds = time.perf_counter() - begin
        self.taken[name] = {"seconds": seconds, "programs": self.programs - before}
        return found

    def count(self, event: str, _: float, **__: Any) -> None:
        """Listens to JAX: a program more."""
        self.programs += event.endswith("backend_compile_duration")


def main(folder: str | None = None) -> None:
    step = Steps()

    def load() -> Any:
        import jax
        import jax.monitoring

        import ufm

        return jax, ufm

    jax, ufm = step("import", load)
    jax.config.update("jax_enable_x64", True)
    jax.monitoring.register_event_duration_secs_listener(step.count)
    if folder is not None:
        ufm.enable_compilation_cache(folder)

    def problem_of(per_class: int) -> Any:
        return ufm.Problem.balanced(
            loss=ufm.CrossEntropy(), num_classes=SIZES[0], per_class=per_class, dim=SIZES[1],
            lam_w=5e-4, lam_h=5e-4, lam_b=1e-2,
        )  # fmt: skip

    ready = jax.block_until_ready
    problem, key = problem_of(SIZES[2]), jax.random.key(0)
    start = step("init_params", lambda: ready(ufm.init_params(problem, key)))
    point = step("solve", lambda: ready(ufm.solve(problem, start))).params
    step("certify", lambda: str(ufm.certify(problem, point).verdict))
    step("global_minimum", lambda: float(ufm.global_minimum(problem).value))
    step("nc_metrics", lambda: float(ufm.nc_metrics(problem, point).nc1))
    step("spectrum", lambda: ufm.spectrum(problem, point))
    step("inertia", lambda: ufm.inertia(problem, point))
    run = jax.jit(optax_loop(lambda x: ufm.objective(problem, x), 1e-8))
    step("optax L-BFGS", lambda: ready(run(start)))
    other = problem_of(OTHER)
    start = ufm.init_params(other, key)
    point = step("another n: solve", lambda: ready(ufm.solve(other, start))).params
    step("another n: certify", lambda: str(ufm.certify(other, point).verdict))
    print(json.dumps(step.taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
