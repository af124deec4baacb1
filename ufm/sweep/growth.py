"""Extend a sweep whose file has grown since its folder was made: keep stored cells, add new ones.

Cell i starts from `fold_in(key(seed), i)`, so that a stored cell must keep its number. The folder
remembers its earlier files (`Contents.before`), and all of them number the cells: first the cells
of the first file, then the additions of each later file, in its order. Two cells are the same if
all their settings are equal, however the file expresses them.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ufm.sweep.store import MANIFEST, SweepStore, open_store
from ufm.sweep.work import AnySweep

Cell = TypeVar("Cell")
_NOTHING = -1


def numbered(files: Iterable[Iterable[Cell]]) -> tuple[Cell, ...]:
    """Merge the cells of several files, oldest first: each once, cell i at position i."""
    numbers: dict[Any, int] = {}
    for cells in files:
        for cell in cells:
            numbers.setdefault(_settings(cell), len(numbers))
    return tuple(dataclasses.replace(cell, index=i) for cell, i in numbers.items())


def _settings(cell: Any) -> Any:
    """The cell without its number, for comparison."""
    return dataclasses.replace(cell, index=_NOTHING)


def continued(sweep: AnySweep, folder: Path) -> tuple[AnySweep, list[str]]:
    """The sweep with its cells numbered as in the folder, and a note on that.

    Raises `ValueError`, naming the difference, if the folder has cells that the sweep lacks.
    """
    if not (folder / MANIFEST).exists():
        return sweep, []
    store = open_store(folder)
    same = dataclasses.replace(sweep.contents, before=store.contents.before)
    if same.identity == store.contents.identity:
        return _following(sweep, store.contents.before), []
    if dataclasses.replace(same, config=store.config, num_cells=store.num_cells) != store.contents:
        return sweep, []  # of another kind, version or precision: refused as such
    _check_grown(sweep, store)
    before = (*store.contents.before, {"config": store.config, "num_cells": store.num_cells})
    grown = _following(sweep, before)
    new = len(grown.cells) - store.num_cells
    return grown, [f"the file has changed: {store.num_cells:,} cells are kept, {new:,} are new"]


def _following(sweep: AnySweep, before: tuple[Any, ...]) -> AnySweep:
    if not before:
        return sweep
    files = [sweep.of(each["config"]).cells for each in before]
    return dataclasses.replace(sweep, before=before, cells=numbered([*files, sweep.cells]))


def _check_grown(sweep: AnySweep, store: SweepStore) -> None:
    """Raise `ValueError` unless every cell of the store is a cell of the sweep."""
    try:
        stored = sweep.of(store.config)
    except ValueError as error:
        raise _another(store, f"its file cannot be read any more ({error})", "") from None
    if stored.work != sweep.work:
        raise _another(store, "what it keeps of a run differs", "")
    asked = set(map(_settings, sweep.cells))
    missing = [cell for cell in stored.cells if _settings(cell) not in asked]
    if missing:
        raise _another(
            store,
            f"{len(missing):,} of its {store.num_cells:,} cells are not in the file"
            f"{_gone(stored.cells, sweep.cells)}",
            "put them back, or ",
        )


def _another(store: SweepStore, why: str, remedy: str) -> ValueError:
    return ValueError(f"{store.path} holds another sweep ({why}): {remedy}choose another `out`")


def _gone(before: Sequence[Any], now: Sequence[Any]) -> str:
    """The first setting that has lost a value, and that value; "" if only combinations are gone."""
    stored, asked = ([cell.settings() for cell in cells] for cells in (before, now))
    for name in stored[0]:
        left = {cell[name] for cell in asked}
        for cell in stored:
            if name != "index" and cell[name] not in left:
                return f", such as those with {name} = {cell[name]}"
    return ""
