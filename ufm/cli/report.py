"""`ufm report`: a sweep as one page."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from ufm.sweep import SweepStore


@dataclasses.dataclass(frozen=True)
class Report:
    """Write one HTML page about a sweep, to read anywhere and to send to a colleague.

    The verdict in a sentence, the cells that fell short, phase diagrams with the theory's
    threshold, convergence, spectra, configuration and versions; of a sweep over networks their
    collapse along training, accuracies and equivalence tests. The page loads nothing from anywhere.
    It can be made while the sweep is still running.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the sweep."""
    out: Path | None = None
    """The file. None: report.html in the folder."""

    def run(self) -> int:
        """Read, draw, write."""
        from ufm._files import unwritable, write_whole
        from ufm.cli._jax import configure
        from ufm.cli._progress import waiting
        from ufm.sweep import open_store

        configure()
        store = open_store(self.folder)
        target = self.out or self.folder / "report.html"
        with waiting("drawing"):
            page = _page(store)
        try:
            write_whole(target, page.encode())
        except OSError as error:
            raise unwritable(target, error) from None
        print(f"Report: {target}")
        return 0


def _page(store: "SweepStore") -> str:
    if store.contents.kind == "networks":
        from ufm.networks.summary import page_data
        from ufm.report.network_page import render_networks

        return render_networks(**page_data(store))
    from ufm.report.sweep_page import render_sweep

    return render_sweep(store)
