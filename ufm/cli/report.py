"""`ufm report`: write the page of a sweep."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ufm.cli.output.print import say

if TYPE_CHECKING:
    from ufm.sweep import SweepStore


@dataclasses.dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about a sweep.

    It contains the verdict in a sentence, the cells that fell short, phase diagrams with the
    theoretical threshold, convergence, spectra, configuration and versions. For a sweep over
    networks it contains their collapse during training, accuracies and equivalence tests. The page
    loads no other files. It can be written while the sweep is still running.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the sweep."""
    out: Path | None = None
    """The file. None: report.html in the folder."""
    figures: bool = False
    """For a sweep over networks, also write the figures next to the page: PNG, PDF and CSV."""

    def run(self) -> int:
        """Read, draw, write."""
        from ufm._support.atomic_files import unwritable, write_whole
        from ufm.cli.output.progress import waiting
        from ufm.cli.parsing.jax import configure
        from ufm.sweep import open_store

        configure()
        store = open_store(self.folder)
        target = self.out or self.folder / "report.html"
        if self.figures and store.contents.kind != "networks":
            raise ValueError(
                f"{store.path} is not a sweep over networks: its figures are in the page"
            )
        with waiting("drawing"):
            files = {target: _page(store).encode()}
            if self.figures:
                files |= {target.with_name(name): x for name, x in _figures(store)}
        for path, content in files.items():
            try:
                write_whole(path, content)
            except OSError as error:
                raise unwritable(path, error) from None
        say(f"Report: {target}")
        if self.figures:
            say(f"Figures: {target.with_name('network-*')}")
        return 0


def _page(store: "SweepStore") -> str:
    if store.contents.kind == "networks":
        from ufm.networks import page_data
        from ufm.report.networks.page import render_networks

        return render_networks(**page_data(store))
    from ufm.report.sweep.page import render_sweep

    return render_sweep(store)


def _figures(store: "SweepStore") -> list[tuple[str, bytes]]:
    from ufm.networks import page_data
    from ufm.report import network_files
    from ufm.runs.run_folder import slug

    files = []
    for each in page_data(store)["variants"]:
        if each["runs"]:
            suffix = f"-{slug(each['label'].replace(', ', '-'))}" if each["label"] else ""
            files += network_files(each["runs"], each["comparisons"], suffix)
    return files
