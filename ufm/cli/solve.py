"""`ufm solve`: solve from many starts, and certify every run."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ufm.cli.each_loss import each_loss
from ufm.cli.output.print import write
from ufm.cli.parsing.options import Method, ProblemOptions

if TYPE_CHECKING:
    from ufm.cli.workers import Workers
    from ufm.model.problem import Problem
    from ufm.runs.loss_result import LossResult
    from ufm.runs.run_folder import RunFolder

#: Fewer runs than these take less time than importing JAX once more.
_MANY_RUNS = 40


def _prepare() -> None:
    """Configure JAX and import what solving needs, which takes a second."""
    from ufm.cli.parsing.jax import configure

    configure()
    import ufm.runs.run_folder  # noqa: F401  # and with it all of the library that runs


class Solve(ProblemOptions, frozen=True, kw_only=True):
    """Solve the model from many random starts and certify the end point of each run.

    Prints for every loss the number of runs that ended at a proven global minimum, the largest gap
    f - (lower bound on f*), the largest |f - f*|, NC1-NC3, and the time; for imbalanced classes
    also which have merged, and why. Writes a folder with results.json, one .npz of arrays per loss,
    table.tex and, with --figures, figures.
    """

    starts: int = 20
    """Number of random starts per loss."""
    scale: float = 0.1
    """Standard deviation of the entries of a start."""
    seed: int = 0
    """Seed of the starts; start i depends only on the seed and i."""
    method: Method = "newton"
    """The solver."""
    tol: float | None = None
    """Gradient norm at which a run has converged. None: min(1e-10, 1e-6 mu)."""
    gap_tol: float | None = None
    """Largest gap of a global minimum, relative to f(0) - f*. None: 1e-6."""
    max_steps: int | None = None
    """Largest number of steps of a run. None: the solver's default."""
    float32: bool = False
    """Solve in single precision, which is fastest on accelerators; finish and certify in double."""
    out: Path | None = None
    """Folder for the results. Run again with the same folder to continue an interrupted job.
    None: a new folder in ufm-results."""
    save: Literal["best", "all", "none"] = "best"
    """Store W, H, b of the run with the lowest f, of all runs, or of none."""
    figures: bool = False
    """Draw figures: PNG, PDF, SVG, data (CSV) and caption (LaTeX) of each. A finished run, named by
    --out, is not repeated."""
    json: bool = False
    """Print the results as JSON on standard output instead of the table."""

    def run(self) -> int:
        """Run loss by loss; an interruption keeps finished losses."""
        from ufm.cli.workers import Workers

        with Workers(self._helpers(), self._solve, _prepare) as workers:
            _prepare()
            from ufm.runs.run_folder import RunFolder

            problems = self.problems(self._check)
            folder = RunFolder.open(self.out, self.configuration())
            results = each_loss(
                problems, folder, lambda names: self._each(names, problems, folder, workers)
            )
        if results is None:
            return 130
        if self.json:
            write(folder.as_json(results))
        else:
            from ufm.cli.output.table import show

            show(next(iter(problems.values())), results, folder.path, drawn=self.figures)
        self._report(problems, results, folder)
        return 0

    def _check(self, problems: "dict[str, Problem]") -> None:
        """Check the options that the problems do not check."""
        from ufm.certificates.certificate import check_tolerance
        from ufm.solvers import check_method, check_options

        self.at_least(starts=1)
        self.check_seed()
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"`scale` must be non-negative and finite, got {self.scale}")
        check_options(self.method, self.tol, self.max_steps)
        for problem in problems.values():
            check_method(problem, self.method)
        check_tolerance(self.gap_tol)

    def _report(
        self, problems: "dict[str, Problem]", results: "list[LossResult]", folder: "RunFolder"
    ) -> None:
        """Write table.tex and the figures, after printing and storing the numbers."""
        from ufm.report.runs.latex import latex_table
        from ufm.runs.loss_summary import summarise

        problem = next(iter(problems.values()))
        folder.add("table.tex", latex_table(problem, [*map(summarise, results)]).encode())
        if not self.figures:
            return
        from ufm.cli.output.progress import waiting
        from ufm.report.runs.folder import figure_files

        with waiting("drawing figures"):
            records = [
                self._record(problem, result, folder)
                for problem, result in zip(problems.values(), results, strict=True)
            ]
            for name, content in figure_files(records):
                folder.add(f"figures/{name}", content)

    def _record(self, problem: "Problem", result: "LossResult", folder: "RunFolder"):
        """The data of the figures: the histories of all runs, and the trajectory of the best."""
        import jax
        import jax.numpy as jnp

        from ufm.minimum.global_minimum import global_minimum
        from ufm.model.start import init_params
        from ufm.report.runs.folder import LossRecord
        from ufm.runs.loss_result import lowest
        from ufm.runs.trajectory import trajectory

        best = lowest([run["value"] for run in result["runs"]])
        dtype = jnp.float32 if self.float32 else None
        starts = init_params(problem, jax.random.key(self.seed), self.scale, best + 1, dtype)
        path = trajectory(
            problem,
            jax.tree.map(lambda x: x[best], starts),
            method=self.method,
            tol=self.tol,
            max_steps=self.max_steps,
        )
        history = folder.history(result["loss"])
        return LossRecord(problem, global_minimum(problem), history, path)

    def _helpers(self) -> int:
        """How many processes help this one: with it, one for each loss, at most one for a core."""
        from ufm._support.threads import cores
        from ufm.cli.parsing.jax import may_have_accelerator

        enough = self.starts * len(self.losses) >= _MANY_RUNS
        finished = self.out is not None and (self.out / "results.json").exists()
        if not enough or finished or may_have_accelerator():
            return 0
        return min(cores(), len(self.losses)) - 1

    def _each(
        self,
        names: list[str],
        problems: "dict[str, Problem]",
        folder: "RunFolder",
        workers: "Workers",
    ) -> "Iterator[tuple[str, LossResult]]":
        """Name and result of each loss, as they come."""
        from ufm.cli.output.progress import bars

        with bars() as begin:

            def on_begin(i: int) -> Callable[[], None]:
                return begin(problems[names[i]].loss.label(), self.starts)

            tasks = [(name, folder) for name in names]
            for i, result in workers.results(tasks, on_begin):
                yield names[i], result

    def _solve(self, name: str, folder: "RunFolder", advance: Callable[[], None]) -> "LossResult":
        """Solve and certify; the bits depend neither on other losses nor on the process."""
        import jax
        import jax.numpy as jnp

        from ufm._support.quick_jit import counted_anew
        from ufm._support.threads import one_blas_thread
        from ufm.runs.loss_result import loss_arrays, loss_result
        from ufm.runs.many_starts import verify
        from ufm.runs.run_folder import Clock

        problem, clock = self.problems()[name], Clock()
        with counted_anew(), one_blas_thread():
            verification = verify(
                problem,
                jax.random.key(self.seed),
                self.starts,
                scale=self.scale,
                method=self.method,
                tol=self.tol,
                gap_tol=self.gap_tol,
                max_steps=self.max_steps,
                dtype=jnp.float32 if self.float32 else None,
                on_done=lambda _: advance(),
            )
        seconds = clock.seconds()
        result = loss_result(name, verification, seconds)
        folder.store(name, loss_arrays(verification, self.save), result)
        return result
