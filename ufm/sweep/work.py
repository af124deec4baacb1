"""What a sweep is to those who run it: cells, and somebody who knows what to do with one.

`ufm.sweep.runner.Sweep` solves problems; `ufm.networks` trains networks through the same store.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ufm.sweep.record import Record
from ufm.sweep.store import Contents


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


@runtime_checkable
class AnySweep(Protocol):
    """Cells and what is done with them."""

    @property
    def contents(self) -> Contents:
        """What its store is for."""
        ...

    @property
    def cells(self) -> Sequence[Any]:
        """Each an `AnyCell`; cell i at position i."""
        ...

    @property
    def work(self) -> Work:
        """What is done with each; equal where it is the same."""
        ...

    def of(self, config: Mapping[str, Any]) -> "AnySweep":
        """The sweep of another file of the kind, as a store remembers it.

        Raises `ValueError` where this version does not read it.
        """
        ...

    def after(self, before: tuple[Any, ...], cells: Sequence[Any]) -> "AnySweep":
        """The same sweep in a folder that had other files before, which number its cells."""
        ...
