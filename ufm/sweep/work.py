"""What a sweep is to those who run it: cells, and somebody who knows what to do with one.

`ufm.sweep.runner.Sweep` solves problems; `ufm.networks` trains networks through the same store.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from ufm.sweep.provenance import precision
from ufm.sweep.record import Columns, Record
from ufm.sweep.store import Contents, Earlier


@runtime_checkable
class Program(Hashable, Protocol):
    """What is compiled once for many cells."""

    @property
    def size(self) -> float:
        """To which the time of a cell is about proportional."""
        ...

    def describe(self) -> str:
        """In words."""
        ...


@runtime_checkable
class AnyCell(Protocol):
    """One run. It can be pickled."""

    @property
    def index(self) -> int:
        """Its number in the sweep."""
        ...

    @property
    def loss(self) -> str:
        """The loss as users write it."""
        ...

    @property
    def program(self) -> Program:
        """What is compiled for it."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that it is, by name."""
        ...


@runtime_checkable
class Work(Protocol):
    """What is done with cells. It can be pickled."""

    @property
    def lanes(self) -> int:
        """How many cells of one program `run` takes at a time, at most."""
        ...

    def prepare(self, cell: Any) -> None:
        """Compile all that the cell's program needs."""
        ...

    def seconds(self, cell: Any) -> float:
        """How long the cell takes once it is compiled: measured, by running it or a part of it."""
        ...

    def run(self, cells: Sequence[Any]) -> list[Record]:
        """The runs of up to `lanes` cells: the same bits for a cell whatever the others are."""
        ...


@dataclasses.dataclass(frozen=True)
class AnySweep:
    """A sweep's file, a `msgspec.Struct`, and its cells, each an `AnyCell`: cell i at position i.

    `before` are the files that its folder had before, which number the cells
    (`ufm.sweep.growth`).
    """

    config: Any
    cells: tuple[Any, ...]
    before: tuple[Earlier, ...] = ()

    #: Of the sweep, and the columns of its table.
    kind: ClassVar[str]
    columns: ClassVar[Columns]

    @property
    def work(self) -> Work:
        """What is done with each cell; equal where it is the same."""
        raise NotImplementedError

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "AnySweep":
        """The sweep of another file of the kind, as a store remembers it.

        Raises `ValueError` where this version does not read it.
        """
        raise NotImplementedError

    @property
    def contents(self) -> Contents:
        """What its store is for, in the precision of this process."""
        config = msgspec.to_builtins(self.config)  # every default written out
        return Contents(
            self.kind, config, len(self.cells), self.columns, precision(), before=self.before
        )
