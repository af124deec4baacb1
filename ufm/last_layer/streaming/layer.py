"""A last layer whose features stay where they are stored, as a problem and a point of it.

>>> layer = large_layer(stored)
>>> layer.problem.class_counts, round(float(layer.problem.lam_h), 6)
((5, 5, 5, 5), 0.005)
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm._support.shown import Shown
from ufm.last_layer.centring import centred_problem
from ufm.last_layer.features import Features
from ufm.last_layer.read import inferred_decay, inferred_note
from ufm.last_layer.stored_layer import StoredLayer
from ufm.last_layer.streaming.moments import Moments, moments
from ufm.last_layer.streaming.passes import Samples
from ufm.model.class_means import reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem


@dataclasses.dataclass(frozen=True, repr=False)
class LargeLayer(Shown):
    """A last layer as a problem and a point of it, with features that are read in blocks.

    The point has W (K, d), b (K,) or None, and for sample i the stored feature minus `offset`.
    `moments` are those of the point. `lam_h_inferred` and `notes` are as in `Classifier`.
    """

    problem: Problem
    W: Float[np.ndarray, "K d"]
    b: Float[np.ndarray, " K"] | None
    samples: Samples
    offset: Float[np.ndarray, " d"]
    moments: Moments
    lam_h_inferred: bool
    notes: tuple[str, ...]

    _printed = ("problem", "lam_h_inferred", "notes")

    def columns(self) -> tuple[Problem, Params]:
        """The K-column problem of the class means (`ufm.model.class_means`), and their point."""
        sizes, means = self.moments.sizes, self.moments.means
        small = reduced_problem(self.problem, self.problem.dim)
        H = means.T * np.sqrt(sizes)
        b = None if self.b is None else jnp.asarray(self.b)
        return small, Params(jnp.asarray(self.W), jnp.asarray(H), b)


def large_layer(stored: StoredLayer, on_rows: Callable[[int], None] | None = None) -> LargeLayer:
    """Read the features of a stored layer once, for its class means and λ_H.

    Args:
        stored: The layer, with any samples in any order.
        on_rows: Called with the number of rows after each block of features.

    Returns:
        The problem and the point, with notes on what was inferred.

    Raises:
        ValueError: The features are not finite, or too small to infer λ_H from.
    """
    features = Features(stored.shards, stored.layout)
    samples = Samples(features, stored.labels, stored.sample_weights)
    found = moments(samples, len(stored.W), on_rows)
    lam_h, notes = stored.lam_h, stored.notes
    if lam_h is None:
        # Of H only the norm matters.
        lam_h = inferred_decay(stored.lam_w, stored.W, np.sqrt([found.square]))
        notes = (inferred_note(lam_h), *notes)
    weights = stored.sample_weights
    problem = Problem(
        loss=stored.loss,
        class_counts=stored.class_counts,
        dim=features.dim,
        lam_w=stored.lam_w,
        lam_h=lam_h,
        lam_b=stored.lam_b,
        column_weights=None if weights is None else jnp.asarray(weights[stored.order]),
    )
    offset = np.zeros(features.dim)
    inferred = stored.lam_h is None
    return LargeLayer(problem, stored.W, stored.b, samples, offset, found, inferred, notes)


def centred_large_layer(layer: LargeLayer) -> LargeLayer | None:
    """The layer with the mean of its features moved into a free bias, as `centred_layer`."""
    mean, found = layer.moments.mean, layer.moments.centred()
    moved = float(found.sizes.sum() * (mean @ mean))
    centred = centred_problem(layer, layer.W, layer.moments.square, found.square, moved)
    if centred is None:
        return None
    problem, notes = centred
    shift = layer.W @ mean
    return dataclasses.replace(
        layer,
        problem=problem,
        b=shift if layer.b is None else layer.b + shift,
        offset=layer.offset + mean,
        moments=found,
        notes=notes,
    )
