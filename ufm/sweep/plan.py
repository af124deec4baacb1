"""Plan a sweep: its cells in batches, one compilation for each program, and an estimate.

Cells that share a program (loss family, shape and method) run together. Results do not depend on
the division into batches: a batch is the unit of writing, and the most that an interruption costs.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from ufm._support.threads import cores
from ufm.runs.run_folder import Clock
from ufm.sweep.work import AnyCell, Program, Work


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part i of n, i from 1: the cells whose number is i − 1 modulo n."""

    number: int
    of: int

    @property
    def name(self) -> str:
        """The name of its lock."""
        return f"{self.number}-of-{self.of}"

    def cells(self, cells: Iterable[Any]) -> list[Any]:
        """Select this part of the cells."""
        return [cell for cell in cells if cell.index % self.of == self.number - 1]


def parse_shard(text: str) -> Shard:
    """ "3/8" is the third of eight. Raises `ValueError` for anything else."""
    number, _, of = text.partition("/")
    try:
        shard = Shard(int(number), int(of))
    except ValueError:
        raise ValueError(f"a shard must have the form i/n, such as 3/8, got {text!r}") from None
    if not 1 <= shard.number <= shard.of:
        raise ValueError(f"of n shards i goes from 1 to n, got {text!r}")
    return shard


def by_program(cells: Iterable[Any]) -> dict[Program, list[Any]]:
    """The cells of each program, in the order in which programs first appear."""
    groups: dict[Program, list[Any]] = {}
    for cell in cells:
        groups.setdefault(cell.program, []).append(cell)
    return groups


def in_lanes(cells: Sequence[Any], lanes: int) -> list[Sequence[Any]]:
    """Split the cells into pieces that run at once."""
    return [cells[begin : begin + lanes] for begin in range(0, len(cells), lanes)]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of compilation and of computation for the cells of one program, on all cores.

    `measured` is False if nothing was run, and the numbers are those of another program scaled by
    size.
    """

    program: Program
    cells: int
    compilation: float
    computation: float
    measured: bool


#: Longest time of measuring before extrapolating, and number of cells measured for each program.
_BUDGET, _SAMPLES = 30.0, 3


def estimate(
    cells: Sequence[Any],
    work: Work,
    on_done: Callable[[], None] = lambda: None,
) -> list[Estimate]:
    """Time a few cells of each program, up to half a minute; scale the others by their size.

    The compiled programs stay in JAX's cache, so that the sweep does not compile them again.
    """
    clock, found = Clock(), []
    for program, members in by_program(cells).items():
        if found and clock.seconds() > _BUDGET:
            found.append(_scaled(program, len(members), found[-1]))
        else:
            found.append(_measured(program, members, work))
        on_done()
    return found


def _measured(program: Program, cells: Sequence[AnyCell], work: Work) -> Estimate:
    clock = Clock()
    work.prepare(cells[0])
    compilation = clock.seconds()
    # The first, the middle and the last cell, because ends of the ranges cost the most.
    chosen = sorted({0, len(cells) // 2, len(cells) - 1})[:_SAMPLES]
    each = sum(work.seconds(cells[i]) for i in chosen) / len(chosen) / num_workers() / work.lanes
    return Estimate(program, len(cells), compilation, each * len(cells), measured=True)


def _scaled(program: Program, count: int, like: Estimate) -> Estimate:
    ratio = program.size / like.program.size
    computation = like.computation / like.cells * ratio * count
    return Estimate(program, count, like.compilation, computation, measured=False)


def num_workers() -> int:
    """Number of cells computed at a time: one per core, or per accelerator."""
    devices = jax.local_device_count()
    return max(devices, cores()) if jax.default_backend() == "cpu" else devices
