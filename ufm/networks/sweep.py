"""A sweep over networks, for `ufm.sweep.run_sweep`: the same batches, store, shards and cluster.

>>> store = run_sweep(load_network_sweep("sweeps/networks.toml"), "ufm-results/networks")
"""

import dataclasses
from pathlib import Path

import msgspec

from ufm import settings
from ufm.networks.cell import Training
from ufm.networks.columns import COLUMNS
from ufm.networks.grid import NetworkCell, NetworkSweepConfig, expand
from ufm.sweep.provenance import precision
from ufm.sweep.store import Contents


@dataclasses.dataclass(frozen=True)
class NetworkSweep:
    """A file and its cells; `run_sweep` runs it."""

    config: NetworkSweepConfig
    cells: tuple[NetworkCell, ...]

    @property
    def work(self) -> Training:
        """Train."""
        return Training()

    @property
    def contents(self) -> Contents:
        """What its store is for."""
        config = msgspec.to_builtins(self.config)
        return Contents("networks", config, len(self.cells), COLUMNS, precision())


def load_network_sweep(path: Path | str) -> NetworkSweep:
    """Read a TOML file and expand its lists and ranges.

    Raises `ValueError` that names the file and the field, `OSError` where it cannot be read.
    """
    path = Path(path)
    values = settings.read(path)
    try:
        config = settings.convert(values, NetworkSweepConfig)
        return NetworkSweep(config, expand(config))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
