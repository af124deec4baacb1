"""Measure neural collapse while a network trains: a plain loop, and a callback.

A small network learns handwritten digits. After each tenth of the training, a tracker reads the
features batch by batch and keeps none of them. The page "Measure collapse in your training loop"
has the same lines for PyTorch and Lightning.

    python examples/09_training_loop.py            # 100 epochs
    python examples/09_training_loop.py --quick    # 20 epochs of fewer images
"""

import argparse
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import ufm

CLASSES, WIDTH, BATCH = 10, 128, 64


class Network(eqx.Module):
    """Two hidden layers, whose output are the features, and a linear classifier."""

    body: eqx.nn.MLP
    head: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        first, second = jax.random.split(key)
        self.body = eqx.nn.MLP(64, WIDTH, WIDTH, 2, final_activation=jax.nn.relu, key=first)
        self.head = eqx.nn.Linear(WIDTH, CLASSES, key=second)

    @eqx.filter_jit
    def features(self, images: Any) -> Any:
        return jax.vmap(self.body)(images)


def batches(data: tuple[Any, Any], rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    order = rng.permutation(len(data[1]))
    for i in range(0, len(order) - BATCH + 1, BATCH):
        yield data[0][order[i : i + BATCH]], data[1][order[i : i + BATCH]]


# A plain loop -------------------------------------------------------------------------------------


def measure(network: Network, data: tuple[Any, Any]) -> dict[str, float]:
    """One pass over the data for the moments, and a second one for NC4."""
    tracker = ufm.CollapseTracker(CLASSES, WIDTH)
    for images, labels in batches(data, np.random.default_rng(0)):
        tracker.update(network.features(images), labels)
    second = tracker.nearest_mean(network.head.weight, network.head.bias)
    for images, _ in batches(data, np.random.default_rng(0)):
        second.update(network.features(images))
    found = tracker.compute(network.head.weight, network.head.bias)
    return dataclasses.asdict(found) | {"nc4": second.nc4}


# A callback ---------------------------------------------------------------------------------------


class CollapseCallback:
    """Keep the metrics of the features that an epoch computes anyway, without another pass."""

    def __init__(self) -> None:
        self.tracker, self.history = ufm.CollapseTracker(CLASSES, WIDTH), []

    def on_batch_end(self, features: Any, labels: Any) -> None:
        self.tracker.update(features, labels)

    def on_epoch_end(self, network: Network) -> None:
        self.history.append(self.tracker.compute(network.head.weight, network.head.bias))
        self.tracker.reset()


# Training -----------------------------------------------------------------------------------------


def loss_of(network: Network, images: Any, labels: Any) -> tuple[Any, Any]:
    features = network.features(images)
    logits = jax.vmap(network.head)(features)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), features


def train(data: Any, epochs: int, callback: CollapseCallback) -> Iterator[tuple[int, Network]]:
    network = Network(jax.random.key(0))
    # The decay is coupled with the gradient: with a decoupled one the rows of W need not sum to 0.
    rate = optax.cosine_decay_schedule(0.1, epochs * (len(data[1]) // BATCH))
    optimizer = optax.chain(optax.add_decayed_weights(5e-3), optax.sgd(rate, momentum=0.9))
    state = optimizer.init(eqx.filter(network, eqx.is_array))

    @eqx.filter_jit
    def step(network: Network, state: Any, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        grads, features = eqx.filter_grad(loss_of, has_aux=True)(network, images, labels)
        updates, state = optimizer.update(grads, state, eqx.filter(network, eqx.is_array))
        return eqx.apply_updates(network, updates), state, features

    rng = np.random.default_rng(1)
    for epoch in range(1, epochs + 1):
        for images, labels in batches(data, rng):
            network, state, features = step(network, state, images, labels)
            callback.on_batch_end(features, labels)
        callback.on_epoch_end(network)
        if epoch % max(1, epochs // 10) == 0:
            yield epoch, network


def main() -> None:
    parser = argparse.ArgumentParser(description="Neural collapse while a network trains.")
    parser.add_argument("--quick", action="store_true", help="20 epochs of fewer images")
    parser.add_argument("--out", type=Path, help="folder for the metrics as metrics.csv")
    options = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    images = ((images - images.mean(axis=0)) / images.std()).astype(np.float32)
    kept = 640 if options.quick else len(labels)
    data = (images[:kept], labels[:kept])

    callback, rows = CollapseCallback(), []
    for epoch, network in train(data, 20 if options.quick else 100, callback):
        found = measure(network, data)
        rows.append({"epoch": epoch} | found)
        names = ("nc0", "nc1", "nc2", "nc3", "nc4", "cosine_mean", "effective_rank")
        print(f"epoch {epoch}: " + ", ".join(f"{name} {found[name]:.3g}" for name in names))

    # The callback saw the features while the weights still moved.
    print(f"in the last epoch, on its way: nc1 {callback.history[-1].nc1:.3g}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        with (options.out / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, fieldnames=list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        print(f"saved {options.out / 'metrics.csv'}")


if __name__ == "__main__":
    main()
