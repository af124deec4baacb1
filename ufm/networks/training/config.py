"""The settings of a training run, validated: the network, the loss and the optimiser.

>>> TrainConfig(loss="mse:1,15", width=512, epochs=100, learning_rate=0.03).depth   # the default
3
"""

import math
from typing import Any

import msgspec

from ufm._support.settings import check_seed
from ufm.networks.models.architecture import DEFAULTS, MODELS, NORMS, Architecture
from ufm.networks.training.objective import Objective, parse_objective
from ufm.networks.training.optimiser import (
    LEARNING_RATE,
    MOMENTUM,
    WEIGHT_DECAY,
    default_batch_size,
    drops,
)

#: Larger numbers are mistakes: such runs never end, and such layers fit no memory.
_MOST, _WIDEST = 10_000_000, 100_000


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a run. Defaults are those of Zhou et al. (2022), except model and epochs.

    `width` is the number of units per layer (MLP) or the multiplier of channels (ResNet), `depth`
    the number of hidden layers or of blocks per stage, and `norm` "batch", "group" or "none"; None
    is replaced by the model's default. `batch_size=None` is 128, or a twentieth of a small data
    set. `weight_decay` is λ in λ/2 ‖θ‖² over all parameters. `measurements` is the number of epochs
    after which features are measured, without those around each fall of the rate. Raises
    `ValueError` that names the field.
    """

    model: str = "mlp"
    width: float | None = None
    depth: int | None = None
    norm: str | None = None
    loss: str = "ce"
    epochs: int = 300
    learning_rate: float = LEARNING_RATE
    momentum: float = MOMENTUM
    weight_decay: float = WEIGHT_DECAY
    batch_size: int | None = None
    measurements: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, got {self.model!r}")
        for name in ("width", "depth", "norm"):
            if getattr(self, name) is None:
                self._settle(name, getattr(DEFAULTS[self.model], name))
        self._settle("loss", parse_objective(self.loss, 2).spec)
        self._check_model()
        self._check_numbers()

    def _settle(self, name: str, value: Any) -> None:
        """Replace the given value of a field by its canonical value."""
        msgspec.structs.force_setattr(self, name, value)

    def _check_model(self) -> None:
        width = self.architecture.width
        if not 0 < width < math.inf:
            raise ValueError(f"width must be positive and finite, got {width}")
        if width > _WIDEST:
            raise ValueError(f"width must be at most {_WIDEST:,}, got {width:,.0f}")
        if self.model == "mlp" and width != int(width):
            raise ValueError(f"width must be a whole number of units for mlp, got {width}")
        self._settle("width", float(width))
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")

    def _check_numbers(self) -> None:
        least = {"depth": 1, "epochs": 1, "batch_size": 2, "measurements": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"{name} must be at least {bound}, got {value}")
            if value is not None and value > _MOST:
                raise ValueError(f"{name} must be at most {_MOST:,}, got {value:,}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"weight_decay must be non-negative and finite, got {self.weight_decay}"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        check_seed("seed", self.seed)

    @property
    def architecture(self) -> Architecture:
        """The network's model and sizes, without None."""
        assert self.width is not None  # set by the constructor, as the others
        assert self.depth is not None
        assert self.norm is not None
        return Architecture(self.model, self.width, self.depth, self.norm)

    def objective(self, num_classes: int) -> Objective:
        """The training loss, with its normalisation."""
        return parse_objective(self.loss, num_classes)

    def batch(self, samples: int) -> int:
        """The batch size for a training set. Raises `ValueError` if it has fewer samples."""
        size = default_batch_size(samples) if self.batch_size is None else self.batch_size
        if size > samples:
            raise ValueError(f"batch_size = {size} is more than the {samples} training images")
        return size

    def measured(self) -> tuple[int, ...]:
        """The epochs, counted from 1, after which the network is measured.

        They are the first, the last and log-spaced ones between, and the last before and the first
        after each fall of the learning rate, so that figures show its effect at the right epoch.
        """
        count = min(self.measurements, self.epochs)
        spaced = {round(self.epochs ** (i / max(count - 1, 1))) for i in range(count)}
        about = {epoch + i for epoch in drops(self.epochs) for i in (0, 1)}
        return tuple(sorted(x for x in spaced | about | {1, self.epochs} if x <= self.epochs))

    def builtins(self) -> dict[str, Any]:
        """All fields as plain values."""
        return msgspec.to_builtins(self)
