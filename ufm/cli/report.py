"""`ufm report`: write the page of a sweep."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    """Also figures as files beside the page, and table.tex. Of networks those of the page; of
    problems collapse-threshold, where decays cross the threshold: size and height of the runs, with
    theory; imbalance, where class counts alone differ and arrays were kept: angles and norms
    of large and small classes, with the certified minimum; and minority-phases, where decays differ
    too: which classes have merged, with the exact thresholds; and etf-share, with hidden layers:
    how often runs end at the simplex ETF. Each with its data as CSV, its
    caption, and PNG, PDF and SVG."""

    def run(self) -> int:
        """Read, draw, write."""
        from ufm._support.atomic_files import unwritable, write_whole
        from ufm.cli.output.progress import waiting
        from ufm.cli.parsing.jax import configure
        from ufm.sweep import open_store

        configure()
        store = open_store(self.folder)
        target = self.out or self.folder / "report.html"
        with waiting("drawing"):
            files = {target: _page(store).encode()}
            beside = _beside(store) if self.figures else {}
            files |= {target.with_name(name): content for name, content in beside.items()}
        for path, content in files.items():
            try:
                write_whole(path, content)
            except OSError as error:
                raise unwritable(path, error) from None
        say(f"Report: {target}")
        if beside:
            drawn = sorted(name for name in beside if name.endswith(".png"))
            say(f"Beside it: {', '.join(['table.tex', *drawn])}")
        return 0


def _page(store: "SweepStore") -> str:
    if store.contents.kind == "networks":
        from ufm.networks import page_data
        from ufm.report.networks.page import render_networks

        return render_networks(**page_data(store))
    from ufm.report.sweep.page import render_sweep

    return render_sweep(store)


def _beside(store: "SweepStore") -> dict[str, bytes]:
    """table.tex, and the figures that the sweep can fill."""
    return _of_networks(store) if store.contents.kind == "networks" else _of_problems(store)


def _of_networks(store: "SweepStore") -> dict[str, bytes]:
    from ufm.networks import page_data
    from ufm.report import network_files
    from ufm.report.networks.table import network_table
    from ufm.runs.run_folder import slug

    data = page_data(store)
    files = {"table.tex": network_table(data["rows"], [data["title"]]).encode()}
    for each in data["variants"]:
        if each["runs"]:
            suffix = f"-{slug(each['label'].replace(', ', '-'))}" if each["label"] else ""
            files |= dict(network_files(each["runs"], each["comparisons"], suffix))
    return files


def _of_problems(store: "SweepStore") -> dict[str, bytes]:
    from ufm.report.phase.minority import phase_files
    from ufm.report.sweep.etf_share import share_files, shares
    from ufm.report.sweep.imbalance import file_suffix, ratio_files, ratios
    from ufm.report.sweep.minority import phases
    from ufm.report.sweep.table import sweep_table
    from ufm.report.sweep.threshold import crossings, threshold_files

    files = {"table.tex": sweep_table(store).encode()}
    crossing = crossings(store.table())
    unequal: Any = (list(ratios(store)), ratio_files), (list(phases(store)), phase_files)
    for found, make in unequal:
        for each in found:
            files |= dict(make(each, file_suffix(each.label) if len(found) > 1 else ""))
    share = shares(store.table())
    files |= dict(share_files(share) if share else [])
    return files | dict(threshold_files(crossing) if crossing else [])
