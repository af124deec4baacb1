"""The interface of sweeps: cells, and the work to do on a cell.

`ufm.sweep.runner.Sweep` solves problems; `ufm.networks` trains networks with the same store.
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
    """A program that is compiled once for many cells."""

    @property
    def size(self) -> float:
        """A number to which the time of a cell is about proportional."""
        ...

    def describe(self) -> str:
        """Describe the program in words."""
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
        """The compiled program of the cell."""
        ...

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        ...


@runtime_checkable
class Work(Protocol):
    """The work to do on cells. It can be pickled."""

    @property
    def lanes(self) -> int:
        """Largest number of cells of one program that `run` takes at a time."""
        ...

    def prepare(self, cell: Any) -> None:
        """Compile all programs of the cell."""
        ...

    def seconds(self, cell: Any) -> float:
        """Measure the time of a compiled cell, by running it or a part of it."""
        ...

    def run(self, cells: Sequence[Any]) -> list[Record]:
        """Run up to `lanes` cells; the bits of a cell must not depend on the others."""
        ...


@dataclasses.dataclass(frozen=True)
class AnySweep:
    """A sweep's file, a `msgspec.Struct`, and its cells, each an `AnyCell`: cell i at position i.

    `before` are the earlier files of its folder, which number the cells (`ufm.sweep.growth`).
    """

    config: Any
    cells: tuple[Any, ...]
    before: tuple[Earlier, ...] = ()

    #: The kind of the sweep.
    kind: ClassVar[str]

    @property
    def columns(self) -> Columns:
        """The columns of its table."""
        raise NotImplementedError

    @property
    def work(self) -> Work:
        """The work on each cell; equal for equal work."""
        raise NotImplementedError

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "AnySweep":
        """Restore a sweep of this kind from the file in a store.

        Raises `ValueError` if this version cannot read the file.
        """
        raise NotImplementedError

    @property
    def contents(self) -> Contents:
        """The contents of its store, in the precision of this process."""
        config = msgspec.to_builtins(self.config)  # every default written out
        return Contents(
            self.kind, config, len(self.cells), self.columns, precision(), before=self.before
        )
