"""The Hessian of a network's training objective at the end of training.

result = train(TrainConfig(width=32, depth=1), data)
trained_curvature(result, data, jax.random.key(0)).largest.values
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ufm.networks.data.images import ImageData
from ufm.networks.measures.curvature import NetworkCurvature, TrainingObjective, network_curvature
from ufm.networks.training.training import TrainResult

#: Number of samples whose activations a product stores at once.
_CHUNK = 500


def trained_curvature(
    result: TrainResult, data: ImageData, key: Key[Array, ""], **options: Any
) -> NetworkCurvature:
    """`network_curvature` of a run at its end, over all training images, in double precision.

    Batch normalisation uses its running statistics, as in evaluation. `options` are those of
    `network_curvature`. Raises `ValueError` if float64 is not enabled in JAX.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError("a network's Hessian needs jax.config.update('jax_enable_x64', True)")
    network, stats = jax.tree.map(_double, (result.network, result.stats))
    objective = result.config.objective(data.num_classes)

    def losses(
        weights: Any, images: Float[Array, "B h w c"], labels: Int[Array, " B"]
    ) -> Float[Array, " B"]:
        features, _ = weights.features(images, stats, training=False)
        values = jax.vmap(objective.loss.value)(weights.logits(features), labels)
        return objective.factor * values

    return network_curvature(
        TrainingObjective(losses, _CHUNK),
        network,
        np.asarray(data.images, np.float64),
        data.labels,
        key,
        weight_decay=result.config.weight_decay,
        **options,
    )


def _double(leaf: Any) -> Any:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
