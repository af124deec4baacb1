r"""Expand a sweep's file into cells: all combinations, in a fixed order.

Losses vary slowest, then the fields of [problem], [solver] and [start] in the order of the schema,
and the random starts of a problem last, so that neighbours share a problem. Cell i starts from
`fold_in(key(seed), i)`: it depends only on the file and i, and can be repeated alone. In a folder
whose file has grown, i is its number there (`ufm.sweep.growth`).

    cells = expand(read_config(Path("mine.toml")))
    cells[7].spec.problem()
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import UNSET

from ufm._support.settings import check_seed
from ufm.certificates.certificate import check_tolerance
from ufm.collapse.symmetric_solution import known_threshold
from ufm.losses import Loss, loss_family, loss_spec, make_loss
from ufm.model.checks import check_size
from ufm.model.problem_spec import ProblemSpec
from ufm.solvers import METHODS, check_method, check_options
from ufm.sweep.problems.axes import Times, axis, loss_axes, size_axes, variant_axes
from ufm.sweep.problems.config import VARIANT_FIELDS, SweepConfig

#: A cell takes half a kilobyte in memory, and a row of the table.
MAX_CELLS = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One run: a problem, a solver and a random start. It has plain values and can be pickled."""

    index: int
    spec: ProblemSpec
    method: str
    tol: float | None
    max_steps: int
    gap_tol: float | None
    scale: float
    seed: int
    start: int

    @property
    def loss(self) -> str:
        """The loss as users write it."""
        return loss_spec(self.spec.loss)

    @property
    def program(self) -> "Program":
        """The program of the cell: all settings that are not traced."""
        spec = self.spec
        family, has_bias = loss_family(spec.loss), spec.lam_b is not None
        outputs = len(spec.targets[0]) if spec.targets else len(spec.class_counts)
        kinds = (text.partition(":")[0] for text in (spec.classifier, spec.features) if text)
        variant = (*kinds, *(["temperature"] if spec.temperature else []), *spec.hidden_dims)
        return Program(family, spec.class_counts, outputs, spec.dim, has_bias, self.method, variant)

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"index": fields.pop("index"), **fields.pop("spec").named(), **fields}


class Program(NamedTuple):
    """Loss family, shape and method, which need one compilation."""

    loss: str
    class_counts: tuple[int, ...]
    num_outputs: int
    dim: int
    has_bias: bool
    method: str
    #: The sets of the factors, whether there is a temperature, and the widths of hidden layers.
    variant: tuple[str | int, ...] = ()

    @property
    def size(self) -> int:
        """K d N, the cost of a Hessian product up to a factor."""
        return self.num_outputs * self.dim * sum(self.class_counts)

    def describe(self) -> str:
        """Describe the program in words."""
        counts = set(self.class_counts)
        sizes = f"n={counts.pop()}" if len(counts) == 1 else f"counts {list(self.class_counts)}"
        bias = "" if self.has_bias else ", no bias"
        more = "".join(f", {part}" for part in self.variant)
        return (
            f"{self.loss}, K={self.num_outputs}, d={self.dim}, {sizes}{bias}{more}, {self.method}"
        )


def expand(config: SweepConfig) -> list[Cell]:
    """Make all cells, cell i at position i.

    Raises `ValueError`, naming the field, for invalid or repeated values, ranges that cannot be
    combined, and more than a million cells.
    """
    blocks = [_Block(config, position) for position in range(len(config.loss))]
    total = sum(block.size for block in blocks) * config.start.count
    if total > MAX_CELLS:
        raise ValueError(
            f"the ranges make {total:,} cells, more than {MAX_CELLS:,}: split the sweep"
        )
    indices = itertools.count()
    cells = [
        Cell(index=next(indices), start=start, **settings)
        for block in blocks
        for settings in block.settings()
        for start in range(config.start.count)
    ]
    _check_distinct(cells[:: config.start.count])
    _check_problems(cells)
    return cells


def _check_distinct(cells: Iterable[Cell]) -> None:
    """Raise `ValueError` for the first repeated cell, which would count twice."""
    seen: dict[Cell, int] = {}
    for cell in cells:
        first = seen.setdefault(dataclasses.replace(cell, index=0), cell.index)
        if first != cell.index:
            decays = {"λ_W": cell.spec.lam_w, "λ_H": cell.spec.lam_h}
            said = "".join(f"{name}={x:g}, " for name, x in decays.items() if x is not None)
            raise ValueError(
                f"cells {first} and {cell.index} are the same ({cell.loss}, {said}"
                f"{cell.program.describe()}): ask for every one once"
            )


def _check_problems(cells: Iterable[Cell]) -> None:
    """Raise `ValueError` for the first cell with an invalid problem, or no method for it."""
    seen: set[tuple[ProblemSpec, str]] = set()
    for cell in cells:
        if (cell.spec, cell.method) in seen:
            continue
        seen.add((cell.spec, cell.method))
        try:
            check_method(cell.spec.problem(), cell.method)
        except ValueError as error:
            raise ValueError(f"problem: {error} (cell {cell.index})") from None


class _Block:
    """The cells of one entry of `loss`."""

    def __init__(self, config: SweepConfig, position: int) -> None:
        self._config = config
        self._losses = loss_axes(config, position)
        problem, solver = config.problem, config.solver
        given = problem.targets
        self._targets = None if given is UNSET else tuple(map(tuple, given))
        self._axes = [
            *self._losses,
            *size_axes(config),
            axis(config, "problem.dim", problem.dim, whole=True),
            axis(config, "problem.lam_w", _or_none(problem.lam_w), relative=True),
            axis(config, "problem.lam_h", _or_none(problem.lam_h), relative=True),
            axis(config, "problem.lam_b", problem.lam_b),
            *variant_axes(config),
            axis(config, "solver.method", solver.method),
            axis(config, "solver.tol", solver.tol),
            axis(config, "solver.max_steps", solver.max_steps, whole=True),
            axis(config, "start.scale", config.start.scale),
            axis(config, "start.seed", config.start.seed, whole=True),
            axis(config, "certificate.gap_tol", config.certificate.gap_tol),
        ]
        if config.combine == "zip":
            self._check_lengths()

    def _check_lengths(self) -> None:
        lengths = {axis.path: len(axis.values) for axis in self._axes if len(axis.values) > 1}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{path} has {count}" for path, count in lengths.items())
            raise ValueError(f"combine = 'zip' needs ranges of one length, but {listed}")

    @property
    def size(self) -> int:
        lengths = [len(axis.values) for axis in self._axes]
        return max(lengths) if self._config.combine == "zip" else math.prod(lengths)

    def settings(self) -> Iterator[dict[str, Any]]:
        """The fields of a `Cell`, without its number and start."""
        for values in self._combinations():
            yield self._resolved(values)

    def _combinations(self) -> Iterable[tuple[Any, ...]]:
        columns = [axis.values for axis in self._axes]
        if self._config.combine == "product":
            return itertools.product(*columns)
        wide = [column if len(column) > 1 else column * self.size for column in columns]
        return zip(*wide, strict=True)

    def _resolved(self, values: tuple[Any, ...]) -> dict[str, Any]:
        count = len(self._losses)
        names = [axis.name for axis in self._axes[count:]]
        chosen: dict[str, Any] = dict(zip(names, values[count:], strict=True))
        _check(chosen)
        lam_b, hidden = chosen.pop("lam_b"), chosen.pop("lam_hidden", ())
        spec = ProblemSpec(
            loss=self._loss(*values[:count]),
            class_counts=_counts(chosen),
            dim=chosen.pop("dim"),
            lam_w=1.0,
            lam_h=1.0,
            lam_b=None if lam_b == "none" else lam_b,
            targets=self._targets,
            lam_hidden=tuple(1.0 if x == "lam_w" else x for x in hidden),
            **{name: chosen.pop(name) for name in VARIANT_FIELDS if name in chosen},
        )
        decays = chosen.pop("lam_w"), chosen.pop("lam_h")
        return chosen | {"spec": _with_decays(spec, *decays, hidden)}

    def _loss(self, given: Loss | str, *numbers: float) -> Loss:
        """The loss, or that of the family with these hyperparameters."""
        if isinstance(given, Loss):
            return given
        names = [axis.name for axis in self._losses[1:]]
        try:
            return make_loss(given, dict(zip(names, numbers, strict=True)))
        except ValueError as error:
            raise ValueError(f"{self._losses[0].path}: {error}") from None


def _or_none(given: Any) -> Any:
    return None if given is UNSET else given


def _counts(chosen: dict[str, Any]) -> tuple[int, ...]:
    """The number of samples in each class; sizes that exceed any memory are refused."""
    listed = chosen.pop("class_counts", None)
    if listed is None:
        classes, each = chosen.pop("num_classes"), chosen.pop("per_class")
        samples = classes * each
    else:
        classes, each, samples = len(listed), 0, sum(listed)
    try:
        check_size(classes, samples, chosen["dim"])
    except ValueError as error:
        raise ValueError(f"problem: {error}") from None
    return (each,) * classes if listed is None else tuple(listed)


def _check(chosen: dict[str, Any]) -> None:
    """Refuse invalid options, and fill in the solver's default number of steps."""
    try:
        check_options(chosen["method"], chosen["tol"], chosen["max_steps"])
    except ValueError as error:
        raise ValueError(f"solver: {error}") from None
    if chosen["max_steps"] is None:
        chosen["max_steps"] = METHODS[chosen["method"]].default_max_steps
    if not 0 <= chosen["scale"] < math.inf:
        raise ValueError(f"start.scale: it must be non-negative and finite, got {chosen['scale']}")
    check_seed("start.seed", chosen["seed"])
    try:
        check_tolerance(chosen["gap_tol"])
    except ValueError as error:
        raise ValueError(f"certificate.gap_{error}") from None


def _with_decays(spec: ProblemSpec, lam_w: Any, lam_h: Any, hidden: tuple[Any, ...]) -> ProblemSpec:
    """The decays as numbers, from multiples of the threshold and others tied to "lam_w"."""
    given = {"lam_w": lam_w, "lam_h": lam_h}
    for name, decay in given.items():
        if not isinstance(decay, Times):
            continue
        threshold = _threshold(spec)
        if threshold is None:
            raise ValueError(
                f"problem.{name}: times = 'threshold' needs balanced classes and one of the "
                "losses ce, ls, fl, mse"
            )
        given[name] = decay.factor * threshold
    if given["lam_h"] == "lam_w":
        given["lam_h"] = given["lam_w"]
    tied = tuple(given["lam_w"] if x == "lam_w" else x for x in hidden)
    return dataclasses.replace(spec, **given, lam_hidden=tied)


@functools.lru_cache(maxsize=4096)
def _threshold(spec: ProblemSpec) -> float | None:
    # The threshold does not depend on the decays, which are set to 1.
    found = known_threshold(spec.problem())
    return None if found is None else float(found.mu)
