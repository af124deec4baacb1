"""A trained network's last layer, held against the unconstrained feature model.

A small network (two hidden layers, ReLU) is trained on scikit-learn's digits with weight decay on
everything. Its last layer is saved as one would save it from PyTorch, W (K×d) and features by rows
(N×d), and certified. What holds, what does not, and why: features are not free.

    python examples/02_certify_a_classifier.py            # a minute
    python examples/02_certify_a_classifier.py --quick    # seconds
"""

import argparse
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import ufm
from ufm.model.objective import value_and_gradient

DECAY = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description="Certify the last layer of a digit classifier.")
    parser.add_argument("--quick", action="store_true", help="a small network, few steps")
    parser.add_argument("--out", type=Path, help="folder for last_layer.npz and its certificate")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # certificates need double precision

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "last_layer.npz"
        if options.quick:
            train_and_save(path, per_class=20, widths=(32, 16), steps=10_000)
        else:
            train_and_save(path, per_class=120, widths=(128, 64), steps=10_000)
        tell(path)


def train_and_save(path: Path, per_class: int, widths: tuple[int, int], steps: int) -> None:
    """Train on `per_class` digits of each class, and save the last layer and its features."""
    images, digits = load_digits(return_X_y=True)
    chosen = np.concatenate([np.flatnonzero(digits == k)[:per_class] for k in range(10)])
    chosen = np.random.default_rng(0).permutation(chosen)  # in no order, as data come
    rest = np.setdiff1d(np.arange(len(digits)), chosen)
    images = images / 16.0
    x, y = jnp.asarray(images[chosen]), jnp.asarray(digits[chosen])

    weights = train(x, y, widths, steps)
    W, b = weights[-1]
    h, logits = forward(weights, x)
    held_out = forward(weights, jnp.asarray(images[rest]))[1]
    say(
        f"{len(y)} digits, features of dimension {W.shape[1]} after a ReLU: accuracy "
        f"{accuracy(logits, y):.1%}, on the {len(rest)} others "
        f"{accuracy(held_out, digits[rest]):.1%}."
    )
    # No lam_h: nobody decays features.
    np.savez(path, W=W, H=h, b=b, labels=np.asarray(y), loss="ce", lam_w=DECAY, lam_b=DECAY)


def forward(weights: list, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Penultimate features (N, d), non-negative, and logits (N, K)."""
    *hidden, (W, b) = weights
    for A, c in hidden:
        x = jax.nn.relu(x @ A.T + c)
    return x, x @ W.T + b


def train(x: jax.Array, y: jax.Array, widths: tuple[int, int], steps: int) -> list:
    """Full-batch Adam on cross-entropy + DECAY/2 (all squares), as PyTorch's weight_decay."""
    sizes = (x.shape[1], *widths, 10)
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    weights = [
        (jax.random.normal(key, (out, into)) * (2.0 / into) ** 0.5, jnp.zeros(out))
        for key, into, out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]

    def loss(weights: list) -> jax.Array:
        fit = optax.softmax_cross_entropy_with_integer_labels(forward(weights, x)[1], y)
        return jnp.mean(fit) + 0.5 * DECAY * optax.tree.norm(weights, squared=True)

    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        weights, state = carry
        updates, state = optimiser.update(jax.grad(loss)(weights), state)
        return (optax.apply_updates(weights, updates), state), None

    train_all = jax.jit(lambda carry: jax.lax.scan(step, carry, None, steps))
    (weights, _), _ = train_all((weights, optimiser.init(weights)))
    return weights


def accuracy(logits: jax.Array, labels: jax.Array | np.ndarray) -> float:
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def tell(path: Path) -> None:
    """Certify the file, and say what holds, what does not, and why."""
    layer = ufm.load_classifier(path)
    problem, params = layer.problem, layer.params
    found = ufm.examine(layer)
    for note in layer.notes:
        say(f"note: {note}")
    say(found.certificate.explain())
    assert found.nearest is not None
    assert params.b is not None

    # What holds: the last layer was trained on just this objective, given its features.
    _, gradient = value_and_gradient(problem, params)
    classifier = float(jnp.hypot(jnp.linalg.norm(gradient.W), jnp.linalg.norm(gradient.b)))
    features = float(jnp.linalg.norm(gradient.H))
    metrics = found.metrics
    say(
        "What holds: W and b are stationary, given the features: |grad_W,b f| = "
        f"{classifier:.0e} against |grad_H f| = {features:.0e}. The nearest class mean decides as "
        f"the network does for all but {metrics.nc4:.1%} of the samples (NC4)."
    )

    # What does not.
    minimum, nearest = found.minimum, found.nearest
    above = float(found.certificate.value) / minimum.value - 1.0
    say(
        f"What does not: f is {above:.0%} above the proven minimum {minimum.value:.4f}, and grad_H "
        f"does not vanish. NC1 = {metrics.nc1:.2f}, NC2 = {metrics.nc2:.2f}, NC3 = "
        f"{metrics.nc3:.2f}, all 0 at the minimisers ({minimum.kind}), the nearest of which is "
        f"{float(nearest.relative):.2f} of its own norm away."
    )

    # Why, first: no weight moves one sample's features alone, so that grad_H f need not vanish.
    say(
        "Why: features are not free. The layers below serve all samples at once and cannot move "
        "one h_i alone. What decays them is the decay of those layers, so that lam_h = "
        f"{float(problem.lam_h):.1e} is inferred, and f* is the minimum for that decay."
    )

    # Second: every minimiser has features that sum to zero, and non-negative numbers cannot.
    # Averaging over samples is a projection, hence |H - H*| >= sqrt(N) |mean of h_i|.
    mean = float(problem.num_columns**0.5 * jnp.linalg.norm(jnp.mean(params.H, axis=1)))
    distance = float(nearest.distance)
    assert float(jnp.min(params.H)) >= 0.0
    assert mean <= distance
    say(
        "Nor can they sum to zero, as a minimiser's do: after a ReLU they are not negative. Their "
        f"mean alone is responsible for a distance of {mean:.1f}, of {distance:.1f} in all."
    )

    # The certificate can be checked by anyone who has NumPy.
    folder = path.with_suffix(".certificate")
    ufm.write_dossier(found, folder)
    check = [sys.executable, str(folder / "verify.py")]
    said = subprocess.run(check, capture_output=True, text=True, check=True).stdout
    say(f"verify.py, without ufm: {said.splitlines()[-1]}")


def say(text: str) -> None:
    print(textwrap.fill(text, width=92))


if __name__ == "__main__":
    main()
