r"""Stochastic gradients with momentum as in PyTorch's SGD, and the schedule of the paper.

    g ← ∇L_net + λ θ,   m ← β m + g,   θ ← θ − η m,

with λ on all parameters, including biases and scales. The schedule is that of Zhou et al. (2022):
η falls tenfold after 3/7 and again after 5/7 of the epochs.

    >>> rate_at(0.1, epoch=150, epochs=350)
    0.01
"""

import optax

Number = optax.ScalarOrSchedule

#: Defaults of Zhou et al. (2022), section 5.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
#: Batch of the paper's code.
BATCH_SIZE = 128
#: Smallest number of steps in an epoch: small data sets get smaller batches.
_STEPS = 20


def sgd(
    learning_rate: Number, momentum: Number, weight_decay: Number
) -> optax.GradientTransformation:
    """The update above; its numbers may be traced."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(momentum),  # pyright: ignore[reportArgumentType]  # an array is fine
        optax.scale_by_learning_rate(learning_rate),
    )


def rate_at(learning_rate: float, epoch: int, epochs: int) -> float:
    """The rate of an epoch, counted from 0."""
    drops = (7 * epoch >= 3 * epochs) + (7 * epoch >= 5 * epochs)
    return learning_rate / 10**drops


def drops(epochs: int) -> tuple[int, ...]:
    """The numbers of epochs after which the rate falls."""
    return tuple(dict.fromkeys(-(-part * epochs // 7) for part in (3, 5)))


def default_batch_size(samples: int) -> int:
    """The paper's 128, or less if an epoch would have fewer than 20 steps."""
    return max(2, min(BATCH_SIZE, samples // _STEPS))
