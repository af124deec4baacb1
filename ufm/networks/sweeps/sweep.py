"""A sweep over networks, for `ufm.sweep.run_sweep`: the same batches, store, shards and cluster.

store = run_sweep(load_network_sweep("sweeps/networks.toml"), "ufm-results/networks")
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ufm._support import settings
from ufm.networks.data.images import validation_split
from ufm.networks.sweeps.cell import Training, images
from ufm.networks.sweeps.columns import COLUMNS
from ufm.networks.sweeps.grid import (
    DataTable,
    NetworkSweepConfig,
    expand,
    stored_config,
)
from ufm.networks.training.learning_rate import VALIDATION_SHARE
from ufm.sweep.record import Columns
from ufm.sweep.work import AnySweep


@dataclasses.dataclass(frozen=True)
class NetworkSweep(AnySweep):
    """A sweep over networks: its file is a `NetworkSweepConfig`."""

    kind = "networks"

    @property
    def columns(self) -> Columns:
        """The table of every sweep over networks."""
        return COLUMNS

    @property
    def work(self) -> Training:
        """Train."""
        return Training()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "NetworkSweep":
        """Restore the sweep from the file in a store."""
        found = stored_config(config)
        return cls(found, expand(found))


def load_network_sweep(path: Path | str) -> NetworkSweep:
    """Read a TOML file and expand its lists and ranges.

    The images are read too. Raises `ValueError` that names the file and the field, and `OSError` if
    the file cannot be read.
    """
    path = Path(path)
    values = settings.read(path)
    try:
        config = settings.convert(values, NetworkSweepConfig)
        # A sweep continues only with the images it began with.
        config = msgspec.structs.replace(config, data=_pinned(config.data))
        sweep = NetworkSweep(config, expand(config))
        _check_data(sweep)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return sweep


def _pinned(data: DataTable) -> DataTable:
    """Add the hash of the images. Raises `ValueError` for unsuitable images."""
    settings.check_seed("data.seed", data.seed)
    try:
        return msgspec.structs.replace(data, sha256=images(data).fingerprint())
    except ValueError as error:
        raise ValueError(f"data: {error}") from None


def _check_data(sweep: NetworkSweep) -> None:
    """Raise `ValueError` for too few images."""
    data = images(sweep.config.data)
    try:
        for config in {cell.config for cell in sweep.cells}:
            config.batch(len(data.labels))
    except ValueError as error:
        raise ValueError(f"training.{error}") from None
    if any(cell.trial is not None for cell in sweep.cells):
        validation_split(data, VALIDATION_SHARE)
