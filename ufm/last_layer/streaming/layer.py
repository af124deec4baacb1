"""A last layer whose features stay where they are stored, as a problem and a point of it.

>>> layer = as_classifier(solution.params.W, solution.params.H, problem.labels, loss="ce",
...                       lam_w=5e-3, b=solution.params.b, lam_b=1e-2, in_memory=False)
>>> layer
LargeLayer
  problem         Problem(loss=CrossEntropy(), class_counts=(5, 5, 5, 5), dim=6, ...
  lam_h_inferred  True
  notes           ('lam_h = 0.005 is inferred as lam_w |W|^2 / |H|^2: ...
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ufm._support.shown import Shown
from ufm.last_layer.feature_decay import centred_problem, inferred_decay, inferred_note
from ufm.last_layer.features import Features
from ufm.last_layer.stored_layer import SQUARE_NOTE, StoredLayer
from ufm.last_layer.streaming.moments import Moments, moments
from ufm.last_layer.streaming.passes import OnRows, Samples
from ufm.model.class_means import reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Most numbers N(d + K) of features and logits that are kept in memory by default. Measured on two
#: cores: at this size to examine them there takes 10 s, most of it to compile.
LARGEST_IN_MEMORY = 4_000_000
#: The same of a layer in sets, which is not read in blocks.
LARGEST_IN_SETS = 40_000_000


@dataclasses.dataclass(frozen=True, repr=False)
class LargeLayer(Shown):
    """A last layer as a problem and a point of it, with features that are read in blocks.

    The point has the W of `stored`, `b` (K,) or None, and the stored features minus `offset`, with
    `moments`. `lam_h_inferred`, `notes`, `order` and `params` are as in `Classifier`, but `params`
    reads all features into memory.
    """

    problem: Problem
    stored: StoredLayer
    b: Float[np.ndarray, " K"] | None
    offset: Float[np.ndarray, " d"]
    moments: Moments
    lam_h_inferred: bool
    notes: tuple[str, ...]

    _printed = ("problem", "lam_h_inferred", "notes")

    @property
    def W(self) -> Float[np.ndarray, "K d"]:
        """The classifier."""
        return self.stored.W

    @property
    def samples(self) -> Samples:
        """The stored features, with labels and weights."""
        features = Features(self.stored.shards, self.stored.layout)
        return Samples(features, self.stored.labels, self.stored.sample_weights)

    @property
    def order(self) -> Int[np.ndarray, " N"]:
        """The positions of the samples in the order of `params`."""
        return self.stored.order

    @functools.cached_property
    def params(self) -> Params:
        """The whole point, in memory."""
        H = self.stored.columns() - self.offset[:, None]
        if self.problem.column_weights is not None:
            H *= np.sqrt(self.problem.column_weights)
        b = None if self.b is None else jnp.asarray(self.b)
        return Params(jnp.asarray(self.W), jnp.asarray(H), b)

    def columns(self) -> tuple[Problem, Params]:
        """The K-column problem of the class means (`ufm.model.class_means`), and their point."""
        sizes, means = self.moments.sizes, self.moments.means
        small = reduced_problem(self.problem, self.problem.dim)
        H = means.T * np.sqrt(sizes)
        b = None if self.b is None else jnp.asarray(self.b)
        return small, Params(jnp.asarray(self.W), jnp.asarray(H), b)


def is_large(stored: StoredLayer) -> bool:
    """Whether features and logits are more than `LARGEST_IN_MEMORY` numbers."""
    most = LARGEST_IN_SETS if stored.sets else LARGEST_IN_MEMORY
    return len(stored.labels) * sum(stored.W.shape) > most


def large_layer(stored: StoredLayer, on_rows: OnRows | None = None) -> LargeLayer:
    """Read the features of a stored layer once, for their moments and λ_H.

    Args:
        stored: The layer.
        on_rows: As for `ufm.last_layer.read.load_classifier`.

    Returns:
        The problem and the point, with notes on what was inferred.

    Raises:
        ValueError: The features are not finite, or too small to infer λ_H from, or JAX is not set
            to double precision.
    """
    if jnp.result_type(float) != np.float64:
        raise ValueError(
            "a layer that is read in blocks needs double precision: "
            'jax.config.update("jax_enable_x64", True)'
        )
    if stored.targets is not None:
        raise ValueError(
            "soft labels are certified in memory only, and these features are more than "
            f"{LARGEST_IN_MEMORY:,} numbers N(d + K): give fewer samples, or `soft_labels` argmax"
        )
    if stored.sets:
        raise ValueError(
            f"a layer in sets ({', '.join(x.label() for x in stored.sets.values())}) is certified "
            f"in memory only, up to {LARGEST_IN_SETS:,} numbers N(d + K): give fewer samples"
        )
    features = Features(stored.shards, stored.layout)
    samples = Samples(features, stored.labels, stored.sample_weights)
    found = moments(samples, len(stored.W), on_rows)
    notes = (*stored.notes, _note(features), *([SQUARE_NOTE] if stored.square else []))
    lam_h = stored.lam_h
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
    offset, inferred = np.zeros(features.dim), stored.lam_h is None
    return LargeLayer(problem, stored, stored.b, offset, found, inferred, notes)


def _note(features: Features) -> str:
    products = f"products of {features.dtype} and sums of float64"
    return f"the features are read in blocks ({products}): directions of descent are not sought"


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
