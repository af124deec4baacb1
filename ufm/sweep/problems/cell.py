"""Run one cell: solve, certify, measure.

On a CPU every number comes from the program of a single instance. A cell therefore has the same
bits alone, in any batch and in any process, for one type of processor, version and number of
threads. On an accelerator, which one instance does not fill, a fixed number of cells is solved in
lock step, and the bits of a cell do not depend on the others. The minimum and collapse threshold
depend only on the problem, and are computed once for all its starts.

    record = run_cell(cells[7])
    record.row["verdict"], record.row["gap"]
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ufm._support.pytree import stacked
from ufm._support.quick_jit import always_compiled
from ufm.certificates.certificate import Reason, Verdict, certify
from ufm.collapse.symmetric_solution import known_threshold
from ufm.collapse.uncentred import frame_metrics
from ufm.minimum.geometry_match import collapse_metrics, compare_geometry
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.problem_spec import ProblemSpec
from ufm.model.start import init_params
from ufm.runs.loss_result import HISTORY
from ufm.runs.run_folder import Clock
from ufm.solvers import Solution, Status, solve, solve_in_lock_step
from ufm.spectra.at_points import spectrum
from ufm.sweep.problems.config import KeepTable
from ufm.sweep.problems.grid import Cell
from ufm.sweep.record import Record

#: Number of cells that an accelerator solves in lock step.
_LANES = 64
#: Largest dimension in which an unstructured spectrum is computed: a tenth of a second.
_DENSE = 500


@always_compiled()
def run_cell(cell: Cell, keep: KeepTable | None = None) -> Record:
    """Run a cell. A run that falls short raises no error: its row says so."""
    problem = cell.spec.problem()
    start = init_params(problem, cell_key(cell), cell.scale)
    clock = Clock()
    solution = jax.block_until_ready(
        solve(problem, start, method=cell.method, tol=cell.tol, max_steps=cell.max_steps)
    )
    return _record(cell, problem, solution, keep or KeepTable(), clock.seconds())


@always_compiled()
def run_in_lock_step(cells: Sequence[Cell], keep: KeepTable, lanes: int) -> list[Record]:
    """Run up to `lanes` cells of one program and one `max_steps`.

    Empty lanes repeat the last cell. The time of a cell is its share of the total.
    """
    full = [*cells, *[cells[-1]] * (lanes - len(cells))]
    problems = [cell.spec.problem() for cell in full]
    starts = [
        init_params(problem, cell_key(cell), cell.scale)
        for cell, problem in zip(full, problems, strict=True)
    ]
    tols = None if full[0].tol is None else jnp.array([cell.tol for cell in full])
    clock = Clock()
    found = jax.block_until_ready(
        solve_in_lock_step(
            stacked(problems), stacked(starts), full[0].method, tols, full[0].max_steps
        )
    )
    each = clock.seconds() / len(cells)
    return [
        _record(cell, problems[i], jax.tree.map(lambda x, i=i: x[i], found), keep, each)
        for i, cell in enumerate(cells)
    ]


def _record(
    cell: Cell, problem: Problem, solution: Solution, keep: KeepTable, seconds: float
) -> Record:
    point = jax.tree.map(np.asarray, solution.params)
    row = (
        _settings(cell)
        | _end(solution)
        | _verdict(cell, problem, solution.params)
        | _geometry(cell, problem, solution.params)
        | _sizes(problem, point)
        | {"seconds": seconds, "negative": -1, "zero": -1, "positive": -1}
    )
    arrays: dict[str, np.ndarray] = {}
    if keep.history:
        arrays |= _history(solution)
    if keep.arrays:
        arrays |= {name: x for name in "WHb" if (x := getattr(point, name)) is not None}
    if keep.spectrum:
        counts, eigenvalues = _spectrum(problem, solution.params)
        row |= counts
        arrays |= eigenvalues
    return Record(row, arrays)


@dataclasses.dataclass(frozen=True)
class Solving:
    """The work of a sweep over problems on its cells."""

    keep: KeepTable
    lock_step: int | None = None

    @property
    def lanes(self) -> int:
        """Number of cells solved together: one on a CPU, where each core takes one."""
        if self.lock_step is not None:
            return self.lock_step
        return 1 if jax.default_backend() == "cpu" else _LANES

    def prepare(self, cell: Cell) -> None:
        """Compile for the cell."""
        compile_for(cell, self.keep, self.lanes)

    def seconds(self, cell: Cell) -> float:
        """Measure the time of the cell."""
        clock = Clock()
        self.run([cell])
        return clock.seconds()

    def run(self, cells: Sequence[Cell]) -> list[Record]:
        """Run up to `lanes` cells of one program."""
        if self.lanes == 1:
            return [run_cell(cell, self.keep) for cell in cells]
        together: dict[int, list[Cell]] = {}
        for cell in cells:
            together.setdefault(cell.max_steps, []).append(cell)
        found = [run_in_lock_step(x, self.keep, self.lanes) for x in together.values()]
        return sorted((record for each in found for record in each), key=lambda r: r.cell)


def cell_key(cell: Cell) -> Any:
    """The key of a cell's start: `fold_in(key(seed), index)`."""
    return jax.random.fold_in(jax.random.key(cell.seed), cell.index)


@always_compiled()
def compile_for(cell: Cell, keep: KeepTable | None = None, lanes: int = 1) -> None:
    """Compile all programs of the cell, by a run without steps."""
    idle, nothing = dataclasses.replace(cell, max_steps=0), KeepTable(history=False)
    if lanes == 1:
        run_cell(idle, nothing)
    else:
        run_in_lock_step([idle], nothing, lanes)
    minimum, _ = facts(cell.spec)
    if keep is not None and keep.spectrum and math.isfinite(minimum.value):
        _spectrum(cell.spec.problem(), minimum.params(cell_key(cell)))


def _settings(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.index,
        **cell.spec.row(),
        "method": cell.method,
        "max_steps": cell.max_steps,
        "start_scale": cell.scale,
        "seed": cell.seed,
        "start": cell.start,
    }


def _end(solution: Solution) -> dict[str, Any]:
    return {
        "status": Status(int(solution.status)).name,
        "value": float(solution.value),
        "grad_norm": float(solution.grad_norm),
        "tol": float(solution.tol),
        "steps": int(solution.num_steps),
        "products": int(solution.num_products),
    }


def _verdict(cell: Cell, problem: Problem, point: Params) -> dict[str, Any]:
    found = certify(problem, point, cell.gap_tol)
    return {
        "verdict": Verdict(int(found.verdict)).name,
        "reason": Reason(int(found.reason)).name,
        "gap": float(found.gap),
        "gap_tol": float(found.tol),
        "rounding": float(found.rounding),
        "dual_norm": float(found.dual_norm),
    }


def _geometry(cell: Cell, problem: Problem, point: Params) -> dict[str, Any]:
    minimum, threshold = facts(cell.spec)
    match = compare_geometry(problem, point, minimum)
    metrics = collapse_metrics(problem, point, match)
    plain = problem.variant is None
    return {
        **({} if plain else {"cosine": float(frame_metrics(problem, point).cosine_mean)}),
        **{name: float(getattr(metrics, name)) for name in ("nc1", "nc2", "nc3", "nc4")},
        "within_between_ratio": float(metrics.within_between_ratio),
        "minimum": minimum.value,
        "minimum_exact": int(minimum.is_exact),
        "kind": minimum.kind,
        "rho_star": minimum.rho,
        "threshold": threshold,
        "logit_distance": match.logit_distance,
        "matches": -1 if match.matches is None else int(match.matches),
    }


@functools.lru_cache(maxsize=1024)
def facts(spec: ProblemSpec) -> tuple[GlobalMinimum, float]:
    """The minimum of a problem and its collapse threshold (NaN if unknown)."""
    problem = spec.problem()
    threshold = known_threshold(problem)
    return global_minimum(problem), math.nan if threshold is None else float(threshold.mu)


def _sizes(problem: Problem, point: Params) -> dict[str, float]:
    """Norms, and ρ: the mean margin K/(K−1) mean_i e_{y_i}ᵀ P W h_i, which is ρ* at the minimum.

    They use einsum, because BLAS's order of sums depends on its threads.
    """
    W, H = np.asarray(point.W), np.asarray(point.H)
    margin = math.nan
    if not problem.has_targets:
        seen = np.asarray(point.whole_classifier)
        own = (seen - seen.mean(axis=0))[problem.labels]
        margin = np.einsum("nd,dn->", own, H) / problem.num_columns
    b = np.zeros(0) if point.b is None else np.asarray(point.b)
    norms = {f"norm_{name}": _norm(x) for name, x in (("w", W), ("h", H), ("b", b))}
    classes = problem.num_classes
    return {"rho": float(margin) * classes / (classes - 1), **norms}


def _norm(x: np.ndarray) -> float:
    return math.sqrt(float(np.sum(np.square(x))))


def _history(solution: Solution) -> dict[str, np.ndarray]:
    used = int(np.sum(np.asarray(solution.history.step) >= 0))
    return {
        f"history_{name}": np.asarray(getattr(solution.history, name))[:used] for name in HISTORY
    }


def _spectrum(problem: Problem, point: Params) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Numbers of eigenvalues by sign, and the listed eigenvalues with their multiplicities.

    They are computed for collapsed points, which have K columns, and for small problems. Otherwise
    they would cost many times as much as the run.
    """
    small = problem.num_parameters <= _DENSE
    try:
        found = spectrum(problem, point, "auto" if small else "collapsed")
    except (ValueError, np.linalg.LinAlgError):  # not collapsed, not finite, or no decay
        return {}, {}
    names = ("negative", "zero", "positive")
    counts = {name: getattr(found, name) for name in names}
    return (
        {name: -1 if count is None else count for name, count in counts.items()},
        {"eigenvalues": found.eigenvalues, "multiplicities": found.multiplicities},
    )
