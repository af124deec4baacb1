"""Make a network from a name and sizes."""

from typing import NamedTuple

import numpy as np

from ufm.networks.models.mlp import MLP
from ufm.networks.models.model import Network
from ufm.networks.models.resnet import ResNet

#: The possible values of `model` and `norm`.
MODELS = ("mlp", "resnet")
NORMS = ("batch", "group", "none")


class Architecture(NamedTuple):
    """Model and sizes, as `TrainConfig` explains them."""

    model: str
    width: float
    depth: int
    norm: str


#: Default sizes of each model.
DEFAULTS = {
    "mlp": Architecture("mlp", width=128, depth=3, norm="batch"),
    "resnet": Architecture("resnet", width=1.0, depth=1, norm="group"),
}


def make_network(
    architecture: Architecture,
    image_shape: tuple[int, int, int],
    num_classes: int,
    rng: np.random.Generator,
) -> Network:
    """Make a random network for images of shape (h, w, c)."""
    model, width, depth, norm = architecture
    rows, columns, channels = image_shape
    if model == "mlp":
        return MLP(rows * columns * channels, int(width), depth, num_classes, norm, rng=rng)
    return ResNet(channels, width, depth, num_classes, norm, rng=rng)
