"""Training losses against closed forms, and the optimiser against PyTorch's rule in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from images import small_data
from scipy.special import log_softmax, softmax

from ufm.networks import PAPER_LOSSES, TrainConfig, objective_specs, parse_objective
from ufm.networks.models.mlp import MLP
from ufm.networks.training.epoch import epoch_order
from ufm.networks.training.objective import mean_gradient, mean_value
from ufm.networks.training.optimiser import default_batch_size, rate_at
from ufm.networks.training.run import Run


def value_and_gradient(name: str, z: np.ndarray, labels: np.ndarray):
    """Mean over the rows, in closed form: (2.1)–(2.4) of the paper, with its MSE."""
    count, classes = z.shape
    e = np.eye(classes)[labels]
    p, log_p = softmax(z, axis=1), log_softmax(z, axis=1)
    if name == "mse:1,15":
        return np.mean((z - 15 * e) ** 2), 2 / classes * (z - 15 * e) / count
    if name == "fl:3":
        u, loss = 1 - np.sum(p * e, 1), -np.sum(log_p * e, 1)
        slope = u**3 + 3 * u**2 * (1 - u) * loss
        return np.mean(u**3 * loss), slope[:, None] * (p - e) / count
    alpha = {"ce": 0.0, "ls:0.05": 0.05}[name]
    target = (1 - alpha) * e + alpha / classes
    return -np.mean(np.sum(target * log_p, 1)), (p - target) / count


@pytest.mark.parametrize("name", PAPER_LOSSES)
def test_losses_and_gradients_are_the_papers(name):
    rng = np.random.default_rng(0)
    z, labels = rng.normal(0, 3, (7, 4)), rng.integers(0, 4, 7)
    objective = parse_objective(name, 4)
    arguments = (
        objective.loss,
        objective.factor,
        jnp.asarray(z, jnp.float32),
        jnp.asarray(labels, jnp.int32),
    )
    value, gradient = value_and_gradient(name, z, labels)
    found = mean_value(*arguments)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, value, rtol=2e-6)
    np.testing.assert_allclose(mean_gradient(*arguments), gradient, rtol=2e-5, atol=2e-6)


def test_normalisation_and_decays():
    mse = parse_objective("mse:1,15", 10)
    assert (mse.spec, mse.factor) == ("mse:1.0,15.0", 0.2)
    assert mse.decay(5e-4) == pytest.approx(5e-4 * 5)
    assert mse.normalisation == (
        "MSE: targets 15·one-hot, squared error averaged over the 10 outputs without ½; it is 2/10 "
        "of the model's loss, whose decays are 10/2 of the network's"
    )
    assert "the label's entry weighted by 5;" in parse_objective("mse:5,3", 10).normalisation
    ce = parse_objective("ce", 10)
    assert (ce.factor, ce.decay(5e-4)) == (1.0, 5e-4)
    assert ce.normalisation == "CE: the mean over samples"
    assert objective_specs(("ce", "ls:0.05", "mse:1,15")) == ("ce", "ls:0.05", "mse:1.0,15.0")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "`losses` needs at least one loss"),
        (("mse:1,15", "MSE:1,15.0"), "`losses` names a loss twice: mse:1,15 MSE:1,15.0"),
        (("ce", "mse"), "loss .mse.: write mse:1,15 for the squared error of Zhou"),
        (("hinge",), "unknown loss 'hinge'"),
    ],
)
def test_losses_that_are_none_are_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        objective_specs(texts)


# The optimiser -------------------------------------------------------------------------------


def test_the_rate_falls_after_three_and_five_sevenths():
    rates = [rate_at(0.1, epoch, 350) for epoch in (0, 149, 150, 249, 250, 349)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    short = [rate_at(1.0, epoch, 7) for epoch in range(7)]
    assert short == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rate_at(1.0, 0, 1) == 1.0


def test_batches_are_the_papers_or_smaller():
    assert [default_batch_size(n) for n in (60_000, 2_560, 1_340, 100, 3)] == [128, 128, 67, 5, 2]


def test_an_epoch_is_a_random_order_of_its_own():
    import jax

    samples = jnp.asarray([3, 5, 8, 9, 11, 20, 21], jnp.int32)

    def order(seed: int, epoch: int) -> np.ndarray:
        number = jnp.asarray(epoch, jnp.int32)
        return np.asarray(epoch_order(jax.random.key(seed), number, samples, 4, 3))

    first = order(0, 0)
    assert first.shape == (4, 3)
    assert not np.any(first[2:])  # the padding, which is never walked over
    used = first[:2].ravel().tolist()
    assert len(set(used)) == 6
    assert set(used) <= set(np.asarray(samples).tolist())
    np.testing.assert_array_equal(first, order(0, 0))
    assert first.tolist() != order(0, 1).tolist() != order(1, 1).tolist()
    # Over many epochs every sample is left out at some time.
    left = {
        tuple(set(np.asarray(samples).tolist()) - set(order(0, i)[:2].ravel())) for i in range(60)
    }
    assert len(left) == len(samples)


class PyTorch:
    """torch.optim.SGD on a perceptron of one hidden layer, in NumPy and double precision."""

    def __init__(self, network: MLP, momentum: float, weight_decay: float) -> None:
        (hidden,), last = network.hidden, network.classifier
        arrays = (hidden.weight, hidden.bias, last.weight, last.bias)
        self.params = [np.asarray(array, np.float64) for array in arrays]
        self.buffers: list[np.ndarray] | None = None
        self.momentum, self.weight_decay = momentum, weight_decay

    def step(self, name: str, x: np.ndarray, labels: np.ndarray, rate: float) -> float:
        U, a, W, b = self.params
        before = x @ U.T + a
        h = np.maximum(before, 0)
        loss, dz = value_and_gradient(name, h @ W.T + b, labels)
        dh = (dz @ W) * (before > 0)
        gradients = [dh.T @ x, dh.sum(0), dz.T @ h, dz.sum(0)]
        decayed = [g + self.weight_decay * p for g, p in zip(gradients, self.params, strict=True)]
        if self.buffers is None:
            self.buffers = decayed
        else:
            self.buffers = [
                self.momentum * m + g for m, g in zip(self.buffers, decayed, strict=True)
            ]
        self.params = [p - rate * m for p, m in zip(self.params, self.buffers, strict=True)]
        return float(loss)


@pytest.mark.parametrize("name", PAPER_LOSSES)
def test_training_is_pytorchs_step_by_step(name, tmp_path):
    import jax

    data = small_data(tmp_path)
    config = TrainConfig(
        width=8, depth=1, norm="none", loss=name, epochs=7, batch_size=10, weight_decay=0.01,
        learning_rate=0.005 if name == "mse:1,15" else 0.05, momentum=0.8, seed=3,
    )  # fmt: skip
    run = Run(config, data)
    assert isinstance(run.state.network, MLP)
    reference = PyTorch(run.state.network, 0.8, 0.01)
    rows = jnp.arange(36, dtype=jnp.int32)
    for epoch in range(5):  # the rate falls once on the way
        order = epoch_order(jax.random.key(3), jnp.asarray(epoch, jnp.int32), rows, 3, 10)
        rate = config.learning_rate * (1.0 if epoch < 3 else 0.1)
        losses = [
            reference.step(name, data.images[batch].reshape(10, -1), data.labels[batch], rate)
            for batch in np.asarray(order)
        ]
        assert run.learning_rate() == pytest.approx(rate)
        assert run.advance() == pytest.approx(np.mean(losses), rel=1e-4)
    network = run.state.network
    found = (*jax.tree.leaves(network.hidden), *jax.tree.leaves(network.classifier))
    for array, expected in zip(found, reference.params, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=2e-5)
