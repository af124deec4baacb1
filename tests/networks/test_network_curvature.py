"""A network's Hessian against the dense one, and the objective against plain NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ufm.hessian.products.trees import function_product
from ufm.networks.measures.curvature import TrainingObjective, network_curvature

KEY, DECAY, SAMPLES = jax.random.key(0), 5e-2, 23
SIZES = (5, 4, 3)


def losses(weights, inputs, labels):
    hidden = jnp.tanh(inputs @ weights["in"]["W"] + weights["in"]["b"][None, :])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ weights["out"], labels)


@functools.cache
def network():
    rng = np.random.default_rng(0)
    weights = {
        "in": {"W": rng.standard_normal(SIZES[:2]), "b": rng.standard_normal(SIZES[1])},
        "out": rng.standard_normal(SIZES[1:]),
    }
    weights = jax.tree.map(lambda x: jnp.asarray(x), weights)
    inputs = jnp.asarray(rng.standard_normal((SAMPLES, SIZES[0])))
    return weights, inputs, jnp.asarray(rng.integers(0, SIZES[2], SAMPLES))


@functools.cache
def dense():
    """∇²f by automatic differentiation of the whole, all samples at once."""
    weights, inputs, labels = network()
    flat, unravel = jax.flatten_util.ravel_pytree(weights)

    def objective(x):
        fit = jnp.mean(losses(unravel(x), inputs, labels))
        return fit + 0.5 * DECAY * jnp.sum(x**2)

    return np.asarray(jax.jit(jax.hessian(objective))(flat))


@pytest.mark.parametrize("chunk", [10, 23, 100])
def test_the_objective_whatever_the_chunk(chunk):
    weights, inputs, labels = network()
    found = TrainingObjective(losses, chunk)(weights, inputs, labels, jnp.asarray(DECAY))
    W, b, out = (np.asarray(x) for x in (weights["in"]["W"], weights["in"]["b"], weights["out"]))
    V = np.tanh(np.asarray(inputs) @ W + b) @ out
    V -= np.log(np.exp(V).sum(axis=1, keepdims=True))
    squares = sum(np.sum(x**2) for x in (W, b, out))
    expected = -np.mean(V[np.arange(SAMPLES), np.asarray(labels)]) + 0.5 * DECAY * squares
    assert float(found) == pytest.approx(expected, rel=1e-13)


@functools.cache
def curvature():
    return network_curvature(
        TrainingObjective(losses, 10), *network(), KEY, weight_decay=DECAY, count=3, num_probes=30,
        tol=1e-9,
    )  # fmt: skip


def test_both_ends_and_the_density_against_the_dense_hessian():
    truth = np.linalg.eigvalsh(dense())
    found = curvature()
    assert found.num_parameters == len(truth) == 36
    assert found.largest.converged
    assert found.smallest.converged
    np.testing.assert_allclose(found.largest.values, truth[::-1][:3], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.smallest.values, truth[:3], rtol=0, atol=1e-9)
    assert max(found.largest.residuals.max(), found.smallest.residuals.max()) < 1e-8
    row = found.row()
    assert truth[0] < 0  # else the share says nothing
    share = np.mean(truth < 0)
    assert row["trace_lower"] <= truth.sum() <= row["trace_upper"]
    assert row["negative_share_lower"] <= share <= row["negative_share_upper"]
    # As many products as dimensions resolve every probe: nothing lies beyond what was found.
    for name, value in (("largest", truth[-1]), ("smallest", truth[0])):
        for part in ("lower", "upper"):
            assert row[f"{name}_{part}"] == pytest.approx(value, abs=1e-9)


def test_too_few_products_leave_the_share_open():
    truth = np.linalg.eigvalsh(dense())
    found = network_curvature(
        TrainingObjective(losses, 10), *network(), KEY, weight_decay=DECAY, count=3, num_probes=30,
        num_matvecs=6,
    )  # fmt: skip
    row = found.row()
    low, high = found.density.cumulative_bounds(-row["negative_beyond"])
    assert low + 0.01 < high
    assert row["negative_share_lower"] <= np.mean(truth < 0) <= row["negative_share_upper"]
    assert row["largest_lower"] <= truth[-1] + 1e-6 * truth[-1]
    assert truth[-1] <= row["largest_upper"]
    assert row["smallest_lower"] <= truth[0] <= row["smallest_upper"] + 1e-6 * truth[-1]


def test_memory_is_that_of_a_chunk():
    weights, inputs, labels = network()
    objective = TrainingObjective(losses, 500)

    def product(weights, direction, inputs, labels):
        return function_product(objective, weights, (inputs, labels, DECAY_ARRAY))(direction)

    DECAY_ARRAY = jnp.asarray(DECAY)
    needed = []
    for samples in (500, 50_000):
        data = (jnp.resize(inputs, (samples, SIZES[0])), jnp.resize(labels, samples))
        program = jax.jit(product).lower(weights, weights, *data).compile()
        needed.append(program.memory_analysis().temp_size_in_bytes)
    assert needed[1] < 2 * needed[0]


def test_in_single_precision_less_counts_as_negative():
    found = curvature()
    pairs = found.largest
    single = dataclasses.replace(pairs, values=pairs.values.astype(np.float32))
    row = dataclasses.replace(found, largest=single).row()
    assert row["negative_beyond"] == pytest.approx(1e-5 * pairs.values[0], rel=1e-6)
    assert found.row()["negative_beyond"] == pytest.approx(1e-8 * pairs.values[0], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"labels": jnp.zeros(3, int)}, "23 inputs against 3 labels"),
        ({"weight_decay": -1.0}, "weight_decay must be non-negative"),
        ({"num_probes": 0}, "num_probes"),
        ({"weights": {"W": jnp.zeros(3, int)}}, "float32 or all float64"),
    ],
)
def test_complaints(changes, complaint):
    weights, inputs, labels = network()
    given = {"weights": weights, "inputs": inputs, "labels": labels, "key": KEY}
    with pytest.raises(ValueError, match=complaint):
        network_curvature(
            TrainingObjective(losses, 10), **{**given, "weight_decay": DECAY, **changes}
        )


def test_a_chunk_is_of_samples():
    with pytest.raises(ValueError, match="chunk must be a positive number"):
        TrainingObjective(losses, 0)
