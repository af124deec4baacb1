r"""Evaluate a network on many images, and measure accuracy, loss and NC1–NC4.

Networks are evaluated in chunks of one size, so that one program serves any number of training and
test images, and in full precision: rounding in an accelerator's fast products would hide a collapse
to 1e-6 of the features' norm.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float32, Int32

from ufm.collapse.metrics import nc_metrics
from ufm.last_layer.read import Classifier, as_classifier
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.losses import CrossEntropy, Loss, loss_spec
from ufm.model.problem import Params, Problem
from ufm.networks.training.epoch import State
from ufm.networks.training.objective import Objective, mean_value

#: Number of images to evaluate at once.
_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class LastLayer:
    """The last layer of a trained network over all training images: a point of the model.

    W (K, d), H (d, N) with columns sorted by class, b (K,), in float32 as in the network;
    derived quantities are in double precision. `lam_w` and `lam_b` are the decays for the library's
    `loss`, λ/c (`ufm.networks.training.objective`).
    """

    W: Float32[np.ndarray, "K d"]
    H: Float32[np.ndarray, "d N"]
    b: Float32[np.ndarray, " K"]
    labels: Int32[np.ndarray, " N"]
    loss: Loss
    lam_w: float
    lam_b: float

    def classifier(self) -> Classifier | LargeLayer:
        """Problem and point, with λ_H inferred from balance as λ_W ‖W‖²/‖H‖²
        (`ufm.last_layer.read`).

        Raises `ValueError` if H is zero, as in a network that has died.
        """
        return as_classifier(
            self.W,
            self.H,
            self.labels,
            loss=self.loss,
            lam_w=self.lam_w,
            b=self.b,
            lam_b=self.lam_b,
            features="columns",
            classifier="rows",
        )

    def arrays(self) -> dict[str, Any]:
        """The contents of an .npz for `ufm certify`."""
        return {
            "W": self.W,
            "H": self.H,
            "b": self.b,
            "labels": self.labels,
            "loss": np.array(loss_spec(self.loss)),
            "lam_w": np.array(self.lam_w),
            "lam_b": np.array(self.lam_b),
        }


def outputs(
    state: State, images: Float32[np.ndarray, "N h w c"]
) -> tuple[Float32[np.ndarray, "N d"], Float32[np.ndarray, "N K"]]:
    """Features and logits of images, with the running statistics of batch normalisation."""
    features, logits = [], []
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        size = len(chunk)
        padded = np.pad(chunk, ((0, _CHUNK - size), (0, 0), (0, 0), (0, 0)))
        h, z = _chunk_outputs(state, padded)
        features.append(np.asarray(h)[:size])
        logits.append(np.asarray(z)[:size])
    return np.concatenate(features), np.concatenate(logits)


@jax.jit
def _chunk_outputs(
    state: State, images: Float32[Array, "C h w c"]
) -> tuple[Float32[Array, "C d"], Float32[Array, "C K"]]:
    with jax.default_matmul_precision("highest"):
        features, _ = state.network.features(images, state.stats, training=False)
        return features, state.network.logits(features)


_mean_value = jax.jit(mean_value)


def loss_and_accuracy(
    objective: Objective,
    logits: Float32[np.ndarray, "N K"],
    labels: Int32[np.ndarray, " N"],
) -> tuple[float, float]:
    """Mean of the training loss over the samples, without decay, and share of correct answers."""
    loss = _mean_value(objective.loss, objective.factor, logits, labels)
    return float(loss), float(np.mean(np.argmax(logits, axis=1) == labels))


def loss_of_zero(objective: Objective) -> float:
    """The training loss at the logits z = 0."""
    logits = np.zeros((1, objective.num_classes), np.float32)
    return loss_and_accuracy(objective, logits, np.zeros(1, np.int32))[0]


def collapse(layer: LastLayer) -> dict[str, float]:
    """NC1–NC4 and the norms of W and H, in double precision if JAX has it enabled."""
    dtype = jax.numpy.result_type(float)
    problem = Problem(
        loss=CrossEntropy(),  # the metrics use neither it nor the decays
        class_counts=tuple(np.bincount(layer.labels).tolist()),
        dim=layer.W.shape[1],
        lam_w=0.0,
        lam_h=0.0,
        lam_b=0.0,
    )
    W, H, b = jax.device_put([np.asarray(x, dtype) for x in (layer.W, layer.H, layer.b)])
    metrics = nc_metrics(problem, Params(W, H, b))
    return {
        **{name: float(getattr(metrics, name)) for name in ("nc1", "nc2", "nc3", "nc4")},
        "weight_norm": float(np.linalg.norm(layer.W.astype(np.float64))),
        "feature_norm": float(np.linalg.norm(layer.H.astype(np.float64))),
    }
