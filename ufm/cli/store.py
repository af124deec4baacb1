"""`ufm store`: query, export and repair the results of a sweep."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

import tyro

from ufm.cli.output.print import say, write

if TYPE_CHECKING:
    from ufm.sweep import SweepStore


@dataclasses.dataclass(frozen=True)
class Query:
    """Print the finished cells that satisfy an SQL WHERE clause on the columns.

    The columns are those of `ufm store export`. Put text in single quotes. Missing and unknown
    values are NULL: "lam_b IS NULL" selects cells without a bias.
    """

    where: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONDITION")]
    """Such as "verdict != 'GLOBAL_MINIMUM' AND lam_w < 1e-3"."""
    store: Path | None = None
    """Folder of the sweep. None: the one last changed in ufm-results."""
    json: bool = False
    """Print all columns as JSON."""

    def run(self) -> int:
        """Print a table, or JSON."""
        from ufm._support.strict_json import dumps
        from ufm.cli.output.query_table import show_cells

        cells = _opened(self.store).query(self.where)
        if self.json:
            write(dumps(cells))
        else:
            show_cells(cells)
        return 0


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the finished cells to a table: .csv, or .parquet (with the extra `parquet`)."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The file; its ending decides the format."""
    where: str = ""
    """Write only cells that satisfy this condition, as in `ufm store query`."""
    store: Path | None = None
    """Folder of the sweep. None: the one last changed in ufm-results."""

    def run(self) -> int:
        """Write the file and print the number of cells."""
        from ufm.sweep import export_table

        count = export_table(_opened(self.store), self.file, self.where)
        say(f"{count:,} cells in {self.file}")
        return 0


@dataclasses.dataclass(frozen=True)
class Reindex:
    """Rebuild the index from the batches, and check all their data."""

    store: Path | None = None
    """Folder of the sweep. None: the one last changed in ufm-results."""

    def run(self) -> int:
        """Rebuild the index and print a summary."""
        from ufm.sweep import reindex

        store = _opened(self.store)
        changes = reindex(store)
        cells = len(store.finished())
        say(f"{cells:,} of {store.num_cells:,} cells in {len(changes.added):,} batches")
        for name in changes.damaged:
            say(f"{name} is damaged: run the sweep again to compute its cells")
        return 0


_Action = Union[  # noqa: UP007  # each alternative is annotated
    Annotated[Query, tyro.conf.subcommand("query", prefix_name=False)],
    Annotated[Export, tyro.conf.subcommand("export", prefix_name=False)],
    Annotated[Reindex, tyro.conf.subcommand("reindex", prefix_name=False)],
]


@dataclasses.dataclass(frozen=True)
class Store:
    """Query or export the results of a sweep, or rebuild their index."""

    action: Annotated[_Action, tyro.conf.OmitArgPrefixes]
    """The action."""

    def run(self) -> int:
        """Run the action."""
        return self.action.run()


def _opened(path: Path | None) -> "SweepStore":
    """Open the store of the folder, or the one last changed."""
    from ufm.sweep import open_store

    if path is not None:
        return open_store(path)
    found = [marker.parent for marker in Path("ufm-results").glob("*/sweep.json")]
    if not found:
        raise ValueError("there is no sweep in ufm-results: name its folder with --store")
    return open_store(max(found, key=_changed))


def _changed(folder: Path) -> float:
    return max(entry.stat().st_mtime for entry in (folder, *folder.glob("batches")))
