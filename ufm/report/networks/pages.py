"""The pages of trained networks: of each a PNG, a PDF, and its data as CSV."""

from collections.abc import Sequence

from ufm.report.networks.curves import MODEL, Run, checked_runs, collapse_page, model_page
from ufm.report.networks.grid import Comparison, forest_page, grid_page
from ufm.report.runs.folder import page_files


def network_files(
    runs: Sequence[Run], comparisons: Sequence[Comparison] = (), suffix: str = ""
) -> list[tuple[str, bytes]]:
    """Names and contents of network-collapse and what else the data can fill.

    network-model where every run has `dual_ratio` and `distance`, network-accuracy and
    network-tests where there are comparisons. Raises `ValueError` for runs that are not complete.
    `suffix` ends the names, for one of several variants of a network.
    """
    checked_runs(runs)
    files = page_files(f"network-collapse{suffix}", collapse_page, runs)
    if all(each.name in run for run in runs for each in MODEL[:2]):
        files += page_files(f"network-model{suffix}", model_page, runs)
    if comparisons:
        files += page_files(f"network-accuracy{suffix}", lambda r: grid_page(r, comparisons), runs)
        files += page_files(f"network-tests{suffix}", forest_page, comparisons)
    return files
