"""The network that is meant by a name and its sizes."""

from typing import NamedTuple

import numpy as np

from ufm.networks.models.mlp import MLP
from ufm.networks.models.model import Network
from ufm.networks.models.resnet import ResNet

#: What may be the `model` and the `norm` of an architecture.
MODELS = ("mlp", "resnet")
NORMS = ("batch", "group", "none")


class Architecture(NamedTuple):
    """Model and sizes, as `TrainConfig` explains them."""

    model: str
    width: float
    depth: int
    norm: str


#: What a model is without further words.
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
    """A random network for images of a shape (h, w, c)."""
    model, width, depth, norm = architecture
    rows, columns, channels = image_shape
    if model == "mlp":
        return MLP(rows * columns * channels, int(width), depth, num_classes, norm, rng=rng)
    return ResNet(channels, width, depth, num_classes, norm, rng=rng)
