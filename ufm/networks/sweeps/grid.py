r"""The TOML file of a sweep over networks, and its cells: a run for every combination.

    title = "Fashion-MNIST"

    [data]
    source = "fashion-mnist"            # as `ufm train --data`
    per_class = 500

    [network]
    width = [16, 64, 256]               # model, width, depth, norm as in `ufm train`
    depth = 3

    [training]
    losses = ["ce", "ls:0.05", "fl:3", "mse:1,15"]
    epochs = [10, 30, 100]
    seed = { from = 0, to = 4, num = 5 }
    learning_rate = 0.05    # without it, by the rule of `ufm.networks.training.learning_rate`

Fields may be values, lists or ranges. A missing rate is chosen once for each loss and network, with
the first seed and for the longest run of the file.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from ufm._support import settings
from ufm.networks.models.architecture import Architecture
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.objective import PAPER_LOSSES, objective_specs
from ufm.sweep.problems.axes import first_seed, listed
from ufm.sweep.problems.config import Real, Whole
from ufm.sweep.problems.grid import MAX_CELLS


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class DataTable(_Table, frozen=True):
    """[data]: the images; `seed` chooses `per_class` of each class.

    `sha256` identifies the training images (`ImageData.fingerprint`): other images are refused.
    """

    source: str = "digits"
    per_class: int | None = None
    seed: int = 0
    sha256: str | None = None


class NetworkTable(_Table, frozen=True):
    """[network]: `None` takes the model's default."""

    model: str = "mlp"
    width: Real | None = None
    depth: Whole | None = None
    norm: str | list[str] | None = None


class TrainingTable(_Table, frozen=True):
    """[training]: the settings of the optimiser, as in `TrainConfig`."""

    losses: list[str] = msgspec.field(default_factory=lambda: list(PAPER_LOSSES))
    epochs: Whole = 300
    seed: Whole = 0
    learning_rate: Real | None = None
    weight_decay: Real = 5e-4
    momentum: Real = 0.9
    batch_size: Whole | None = None
    measurements: int = 20


class NetworkSweepConfig(_Table, frozen=True, kw_only=True):
    """The whole file."""

    title: str = ""
    network: NetworkTable
    data: DataTable = DataTable()
    training: TrainingTable = TrainingTable()


def stored_config(values: Mapping[str, Any]) -> NetworkSweepConfig:
    """Restore the file in a store. Raises `ValueError` if this version cannot read it."""
    found = settings.convert(values, NetworkSweepConfig)
    losses = list(objective_specs(found.training.losses, stored=True))
    return msgspec.structs.replace(
        found, training=msgspec.structs.replace(found.training, losses=losses)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkProgram:
    """The program of a cell: all settings of the network that are not traced."""

    architecture: Architecture
    family: str
    batch_size: int | None

    @property
    def size(self) -> float:
        """The square of a layer's units, to which the time of an epoch is about proportional."""
        return self.architecture.width**2 * self.architecture.depth

    def describe(self) -> str:
        """Describe the program in words."""
        model = self.architecture
        sizes = f"width {model.width:g}, depth {model.depth}, norm {model.norm}"
        return f"{self.family}, {model.model}, {sizes}"


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkCell:
    """One run of training. `trial` is the run that chooses the rate; None if the rate is given."""

    index: int
    data: DataTable
    config: TrainConfig
    trial: TrainConfig | None

    @property
    def loss(self) -> str:
        """The loss as users write it."""
        return self.config.loss

    @property
    def program(self) -> NetworkProgram:
        """The compiled program of the cell."""
        family = self.loss.partition(":")[0]
        return NetworkProgram(self.config.architecture, family, self.config.batch_size)

    def settings(self) -> dict[str, Any]:
        """All settings by name; `seed` is that of the run, not of the choice of images."""
        found = {"index": self.index, **self.config.builtins()}
        found |= {k: x for k, x in msgspec.structs.asdict(self.data).items() if k not in found}
        return found if self.trial is None else found | {"learning_rate": "by rule"}


def expand(config: NetworkSweepConfig) -> tuple[NetworkCell, ...]:
    """Make all runs; seeds vary fastest, then epochs, so that neighbours share network and loss."""
    axes = _axes(config)
    count = math.prod(map(len, axes.values()))
    if count > MAX_CELLS:
        raise ValueError(f"the lists make {count:,} cells, more than {MAX_CELLS:,}: make several")
    longest, first = max(axes["epochs"]), axes["seed"][0]
    cells = []
    for chosen in itertools.product(*axes.values()):
        given = dict(zip(axes, chosen, strict=True))
        by_rule = given["learning_rate"] is None
        if by_rule:
            del given["learning_rate"]
        run = _config(config, given)
        trial = _config(config, given | {"epochs": longest, "seed": first}) if by_rule else None
        cells.append(NetworkCell(len(cells), config.data, run, trial))
    return tuple(cells)


def _config(config: NetworkSweepConfig, given: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig(
            model=config.network.model, measurements=config.training.measurements, **given
        )
    except ValueError as error:
        name = str(error).partition(" ")[0]
        table = "network" if name in ("model", "width", "depth", "norm") else "training"
        raise ValueError(f"{table}.{error}") from None


def _axes(config: NetworkSweepConfig) -> dict[str, list[Any]]:
    """The values of every field of a run, in the order of the cells."""
    network, training = config.network, config.training
    try:
        losses = list(objective_specs(training.losses))
    except ValueError as error:
        raise ValueError(f"training.losses: {str(error).removeprefix('`losses` ')}") from None
    seed = first_seed("training.seed", training.seed)

    def values(table: str, name: str, given: Any, whole: bool = False) -> list[Any]:
        return listed(f"{table}.{name}", given, seed, whole=whole)

    return {
        "width": values("network", "width", network.width),
        "depth": values("network", "depth", network.depth, whole=True),
        "norm": values("network", "norm", network.norm),
        "loss": losses,
        "weight_decay": values("training", "weight_decay", training.weight_decay),
        "momentum": values("training", "momentum", training.momentum),
        "batch_size": values("training", "batch_size", training.batch_size, whole=True),
        "learning_rate": values("training", "learning_rate", training.learning_rate),
        "epochs": values("training", "epochs", training.epochs, whole=True),
        "seed": values("training", "seed", training.seed, whole=True),
    }
