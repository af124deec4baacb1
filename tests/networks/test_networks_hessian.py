"""The Hessian of a trained network, against the dense one of the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ufm.networks import TrainConfig, load_data, train, trained_curvature


@pytest.fixture(scope="module")
def trained():
    data = load_data("digits", per_class=3)
    config = TrainConfig(
        loss="mse:1,15", width=4, depth=1, norm="batch", epochs=3, learning_rate=0.02
    )
    return train(config, data), data


def dense(result, data) -> np.ndarray:
    """By jax.hessian, written out: one hidden layer with frozen batch statistics."""
    leaves, treedef = jax.tree.flatten(
        jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), result.network)
    )
    ((mean, variance),) = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), result.stats)
    images = jnp.asarray(data.images, jnp.float64).reshape(len(data.labels), -1)
    targets = 15.0 * jax.nn.one_hot(data.labels, 10, dtype=jnp.float64)

    def objective(flat):
        parts = jnp.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        network = jax.tree.unflatten(treedef, shaped)
        layer, norm = network.hidden[0], network.norms[0].affine
        x = images @ layer.weight.T + layer.bias[None]
        x = (x - mean[None]) / jnp.sqrt(variance + 1e-5)[None]
        x = jax.nn.relu(x * norm.scale[None] + norm.shift[None])
        z = x @ network.classifier.weight.T + network.classifier.bias[None]
        # The paper's squared error: the mean over outputs, no ½.
        return jnp.mean((z - targets) ** 2) + 0.5 * 5e-4 * jnp.sum(flat**2)

    flat = jnp.concatenate([leaf.ravel() for leaf in leaves])
    return np.asarray(jax.jit(jax.hessian(objective))(flat))


def test_both_ends_and_the_trace_are_those_of_the_dense_matrix(trained, full):
    (result, data), probes = trained, 80 if full else 20
    found = trained_curvature(result, data, jax.random.key(0), count=3, num_probes=probes)
    matrix = dense(result, data)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert found.num_parameters == len(matrix) == 64 * 4 + 4 + 2 * 4 + 4 * 10 + 10
    scale = np.abs(eigenvalues).max()
    np.testing.assert_allclose(found.largest.values, eigenvalues[:-4:-1], atol=1e-6 * scale)
    np.testing.assert_allclose(found.smallest.values[0], eigenvalues[0], atol=1e-5 * scale)
    row = found.row()
    assert row["trace_lower"] <= np.trace(matrix) <= row["trace_upper"]
    negative = np.mean(eigenvalues < -row["negative_beyond"])
    assert row["negative_share_lower"] <= negative <= row["negative_share_upper"]
    assert row["largest_lower"] - 1e-6 * scale <= eigenvalues[-1] <= row["largest_upper"]
    assert row["smallest_lower"] <= eigenvalues[0] <= row["smallest_upper"] + 1e-6 * scale


def test_without_double_precision_it_is_refused(trained):
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="jax_enable_x64"):
            trained_curvature(*trained, jax.random.key(0))
    finally:
        jax.config.update("jax_enable_x64", True)
