"""Small sweeps over networks that tests share."""

from pathlib import Path

from sweeps import written
from ufm.networks import NetworkSweep, load_network_sweep

SMALL = """
title = "small networks"
[data]
per_class = 20
[network]
width = 10
depth = 1
[training]
losses = ["ce", "mse:1,15"]
epochs = [2, 3]
seed = [4, 7]
learning_rate = 0.02
"""


def loaded(folder: Path, text: str = SMALL) -> NetworkSweep:
    return load_network_sweep(written(folder, text, "nets.toml"))
