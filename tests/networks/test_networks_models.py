"""Networks layer by layer, against NumPy and SciPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from ufm.networks.models.architecture import Architecture, make_network
from ufm.networks.models.convolution import Convolution, by_library, by_patches
from ufm.networks.models.mlp import MLP
from ufm.networks.models.model import he_normal
from ufm.networks.models.normalisation import BatchNorm, GroupNorm, make_norm
from ufm.networks.models.resnet import Block, ResNet, channels

F32 = jnp.float32


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.5, 2.0, shape)


def double(array) -> np.ndarray:
    return np.asarray(array, np.float64)


# Normalisation -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3, 2, 4), (6, 4)])
def test_batch_norm_in_training_and_after(shape):
    norm, scale, shift = BatchNorm(4), drawn(4, seed=1), drawn(4, seed=2)
    object.__setattr__(norm.affine, "scale", jnp.asarray(scale, F32))
    object.__setattr__(norm.affine, "shift", jnp.asarray(shift, F32))
    axes, count = tuple(range(len(shape) - 1)), np.prod(shape[:-1])
    mean, variance = np.zeros(4), np.ones(4)
    stats = norm.initial_stats()
    for seed in (3, 4):
        x = drawn(*shape, seed=seed)
        y, stats = norm(jnp.asarray(x, F32), stats, training=True)
        m, v = x.mean(axes), x.var(axes)
        np.testing.assert_allclose(y, (x - m) / np.sqrt(v + 1e-5) * scale + shift, atol=2e-5)
        mean, variance = 0.9 * mean + 0.1 * m, 0.9 * variance + 0.1 * v * count / (count - 1)
    for found, expected in zip(stats, (mean, variance), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6)
    x = drawn(*shape, seed=5)
    y, after = norm(jnp.asarray(x, F32), stats, training=False)
    expected = (x - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(y, expected, atol=2e-5)
    assert after is stats


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (4, 4), (6, 2), (5, 1)])
def test_group_norm_sees_one_image_and_one_group(channels, groups):
    x = drawn(3, 2, 5, channels)
    y, stats = GroupNorm(channels)(jnp.asarray(x, F32), (), training=True)
    assert stats == ()
    size = channels // groups
    for image in range(3):
        for start in range(0, channels, size):
            part = x[image, :, :, start : start + size]
            expected = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            np.testing.assert_allclose(y[image, :, :, start : start + size], expected, atol=2e-5)


@pytest.mark.parametrize(("units", "groups"), [(4, 1), (8, 1), (16, 2), (24, 2), (64, 8), (20, 2)])
def test_a_group_of_a_layer_without_pixels_has_units_to_compare(units, groups):
    """Of one unit a group norm leaves 0, of two a sign: nothing to learn from."""
    x = drawn(5, units)
    y, _ = GroupNorm(units)(jnp.asarray(x, F32), (), training=True)
    parts = x.reshape(5, groups, -1)
    centred = parts - parts.mean(axis=2, keepdims=True)
    expected = centred / np.sqrt(parts.var(axis=2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(5, units), atol=2e-5)


def test_no_norm_changes_nothing():
    x = jnp.asarray(drawn(3, 4), F32)
    norm = make_norm("none", 4)
    assert norm(x, norm.initial_stats(), training=True) == (x, ())
    assert jax.tree.leaves(norm) == []


# Convolution and blocks ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "stride", "side"), [(3, 1, 5), (3, 2, 4), (3, 2, 5), (1, 2, 4)])
def test_convolution_is_a_correlation_with_margins(size, stride, side):
    layer = Convolution(2, 3, size, stride, rng=np.random.default_rng(0))
    x, weight = drawn(2, side, side, 2), double(layer.weight)
    margin = size // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    expected = [
        [
            sum(
                correlate2d(image[:, :, i], weight[:, :, i, j], mode="valid")[::stride, ::stride]
                for i in range(2)
            )
            for j in range(3)
        ]
        for image in padded
    ]
    for convolve in (by_patches, by_library):
        y = convolve(jnp.asarray(x, F32), layer.weight, stride)
        np.testing.assert_allclose(np.moveaxis(y, -1, 1), np.array(expected), atol=1e-4)
    np.testing.assert_allclose(layer(jnp.asarray(x, F32)), y, atol=1e-5)


def test_a_block_with_dead_branch_is_its_shortcut():
    block = Block(4, 4, 1, "none", rng=np.random.default_rng(0))
    assert block.shortcut is None
    x = jnp.asarray(np.abs(drawn(2, 3, 3, 4)), F32)
    dead = jax.tree.map(jnp.zeros_like, block)
    y, _ = dead(x, block.initial_stats(), training=True)
    np.testing.assert_array_equal(y, x)
    assert Block(4, 4, 2, "none", rng=np.random.default_rng(0)).shortcut is not None


# Whole networks ------------------------------------------------------------------------------


def test_the_mlp_is_what_it_says():
    rng = np.random.default_rng(0)
    network = make_network(Architecture("mlp", 7, 2, "none"), (4, 4, 1), 3, rng)
    assert isinstance(network, MLP)
    x = drawn(5, 4, 4, 1)
    h = x.reshape(5, 16)
    for layer in network.hidden:
        h = np.maximum(0, h @ double(layer.weight).T + double(layer.bias))
    features, stats = network.features(jnp.asarray(x, F32), network.initial_stats(), training=True)
    np.testing.assert_allclose(features, h, rtol=1e-5, atol=1e-5)
    assert jax.tree.leaves(stats) == []
    W, b = double(network.classifier.weight), double(network.classifier.bias)
    assert W.shape == (3, 7)
    np.testing.assert_allclose(network.logits(features), h @ W.T + b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(("model", "width", "dim"), [("mlp", 5, 5), ("resnet", 0.25, 16)])
@pytest.mark.parametrize("side", [8, 28])
def test_every_network_takes_grey_images_of_both_sizes(model, width, dim, norm, side):
    network = make_network(
        Architecture(model, width, 2, norm), (side, side, 1), 10, np.random.default_rng(0)
    )
    stats = network.initial_stats()
    images = jax.ShapeDtypeStruct((4, side, side, 1), F32)
    features, after = jax.eval_shape(lambda x: network.features(x, stats, training=True), images)
    assert (features.shape, features.dtype) == ((4, dim), F32)
    assert jax.tree.structure(after) == jax.tree.structure(stats)
    logits = jax.eval_shape(network.logits, features)
    assert (logits.shape, logits.dtype) == ((4, 10), F32)
    assert {leaf.dtype for leaf in jax.tree.leaves((network, stats, after))} == {F32.dtype}
    assert bool(jax.tree.leaves(stats)) == (norm == "batch")


def test_widths_multiply_channels_and_depths_blocks():
    assert channels(1.0) == (16, 32, 64)
    assert channels(0.25) == (4, 8, 16)
    assert channels(0.01) == (1, 1, 1)
    network = make_network(
        Architecture("resnet", 0.25, 2, "group"), (8, 8, 1), 3, np.random.default_rng(0)
    )
    assert isinstance(network, ResNet)
    assert [block.first.convolution.stride for block in network.blocks] == [1, 1, 2, 1, 2, 1]
    kept = [block.shortcut is None for block in network.blocks]
    assert kept == [True, True, False, True, False, True]


def test_starts_have_the_variance_they_claim():
    rng = np.random.default_rng(0)
    weights = double(he_normal(rng, (300, 200), fan=50))
    assert weights.std() == pytest.approx((2 / 50) ** 0.5, rel=0.01)
    network = make_network(Architecture("mlp", 64, 1, "none"), (16, 16, 1), 100, rng)
    assert isinstance(network, MLP)
    assert double(network.hidden[0].weight).std() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert not np.any(network.hidden[0].bias)
    W = double(network.classifier.weight)
    assert np.abs(W).max() <= 1 / 8
    assert W.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.02)
    assert np.abs(network.classifier.bias).max() > 0.05
    convolution = Convolution(8, 32, 3, 1, rng=rng)
    assert double(convolution.weight).std() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)
