r"""Read a trained last layer as a point of the model: weights, features, labels and decays.

A network's last layer has W (K×d) and possibly b (K), the features of N samples, and their labels.
It is a point of the unconstrained feature model. The labels give the class sizes, and λ_W and λ_b
are the decays of training. A network has no decay λ_H of the features: it is given, or inferred
from λ_W WᵀW = λ_H HHᵀ, which holds at every critical point, as

    λ_H = λ_W ‖W‖² / ‖H‖².

**Decays of frameworks.** λ adds λ/2 ‖w‖² to a loss that averages over samples. `weight_decay` of
torch.optim.SGD and optax.add_decayed_weights ahead of optax.sgd are this λ: they add λw to the
gradient. Keras's L2(x) adds x‖w‖², so λ = 2x. Losses that average over the K outputs too are
smaller than the MSE here. Multiply their decays: torch.nn.MSELoss and Keras's by K/2, optax.l2_loss
by K.

Arrays may come from NumPy, JAX, Keras or PyTorch, in the layouts of `ufm.last_layer.arrays`. They
are converted to double precision, which changes no floating-point number. Samples are ordered by
class, as the model requires, and `order` gives their original positions.

    layer = load_classifier("last_layer.npz", loss="ls:0.1")

or from arrays:

    >>> params = solution.params
    >>> layer = as_classifier(params.W, params.H, problem.labels, loss="ce", lam_w=5e-3,
    ...                       b=params.b, lam_b=1e-2)
    >>> round(float(layer.problem.lam_h), 6), layer.notes[0]
    (0.005, 'lam_h = 0.005 is inferred as lam_w |W|^2 / |H|^2...')
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ufm._support.host_arrays import host
from ufm._support.shown import Shown
from ufm.last_layer.as_trained import Objective, Reduction
from ufm.last_layer.feature_decay import inferred_decay, inferred_note
from ufm.last_layer.files import read_layer
from ufm.last_layer.sets import into_sets
from ufm.last_layer.soft_labels import Soft
from ufm.last_layer.stored_layer import SQUARE_FLAGS, SQUARE_NOTE, StoredLayer, store_layer
from ufm.last_layer.streaming.layer import LargeLayer, is_large, large_layer
from ufm.last_layer.streaming.passes import OnRows
from ufm.losses import Loss, parse_loss
from ufm.model.objective import data_loss, logits
from ufm.model.params import Params
from ufm.model.problem import Problem


@dataclasses.dataclass(frozen=True, repr=False)
class Classifier(Shown):
    """A last layer as a problem and a point of it.

    Column i of `params.H` is sample `order[i]` of the given features. `notes` are sentences on
    assumptions, inferred values and changes; report them with the result. `lam_h_inferred` says
    that a verdict concerns the problem with the inferred decay.
    """

    problem: Problem
    params: Params
    order: Int[np.ndarray, " N"]
    lam_h_inferred: bool
    notes: tuple[str, ...]

    _printed = ("problem", "params", "lam_h_inferred", "notes")


def load_classifier(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    loss: str | None = None,
    lam_w: float | None = None,
    lam_h: float | None = None,
    lam_b: float | None = None,
    features: str | None = None,
    classifier: str | None = None,
    weight: str | None = None,
    bias: str | None = None,
    features_name: str | None = None,
    labels: str | None = None,
    class_weights: str | None = None,
    sample_weights: str | None = None,
    temperature: float | None = None,
    reduction: Reduction | None = None,
    ignore_index: int | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
    soft_labels: Soft | None = None,
    in_memory: bool | None = None,
    on_rows: OnRows | None = None,
) -> Classifier | LargeLayer:
    """Read a trained last layer from files.

    They contain W, H and labels, and optionally b, class_weights, sample_weights, temperature,
    lam_w, lam_h, lam_b and loss, in any of these forms: .npz; .npy, an array with the name of the
    file, or numbered shards of it, or a folder of such files; .safetensors; and .pt, where PyTorch
    is installed. The kind of a file is recognised by its content. Pickles are never loaded.

    Arguments override the files, and `notes` says so; `notes` also lists what was inferred and the
    arrays that were not read.

    Args:
        path: A file, a folder of .npy files, or several of them.
        loss: Text as `parse_loss` reads it; None reads the file's.
        lam_w: Decay of W; None reads the file's.
        lam_h: Decay of H; None reads the file's, or infers it as `as_classifier` does.
        lam_b: Decay of the bias; None reads the file's.
        features: As for `as_classifier`.
        classifier: As for `as_classifier`.
        weight: Name of W in the files; None finds W, kernel, or a state dict's fc.weight and alike.
        bias: Name of b; None finds b, or the bias beside the weight.
        features_name: Name of H; None finds H, features, embeddings and alike.
        labels: Name of the labels; None finds labels, targets or y.
        class_weights: Name of the class weights; None finds class_weights, criterion.weight.
        sample_weights: Name of the sample weights; None finds sample_weights.
        temperature: T of logits (WH + b)/T; None reads the file's, else 1.
        reduction: As for `as_classifier`.
        ignore_index: As for `as_classifier`.
        first_label: As for `as_classifier`.
        class_names: As for `as_classifier`.
        soft_labels: As for `as_classifier`.
        in_memory: As for `as_classifier`.
        on_rows: As for `as_classifier`.

    Returns:
        The problem, the point with samples ordered by class, and notes on what was inferred.

    Raises:
        ValueError: A file cannot be read or has no last layer, a name is ambiguous, or an array
            (a margin, a mask) makes it a different problem; the message says what to change.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    names = {
        **{"weight": weight, "bias": bias, "features_name": features_name, "labels": labels},
        **{"class_weights": class_weights, "sample_weights": sample_weights},
    }
    numbers = {"lam_w": lam_w, "lam_h": lam_h, "lam_b": lam_b, "temperature": temperature}
    stored = read_layer(
        paths,
        names,
        {"loss": loss} | numbers,
        reduction=reduction,
        features=features,
        classifier=classifier,
        ignore_index=ignore_index,
        first_label=first_label,
        class_names=class_names,
        soft=soft_labels,
    )
    return _layer_of(stored, in_memory, on_rows)


def as_classifier(
    W: Any,
    H: Any,
    labels: Any,
    *,
    loss: Loss | str,
    lam_w: float | None = None,
    lam_h: float | None = None,
    b: Any = None,
    lam_b: float | None = None,
    features: str | None = None,
    classifier: str | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    temperature: float | None = None,
    reduction: Reduction | None = None,
    ignore_index: int | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
    soft_labels: Soft | None = None,
    in_memory: bool | None = None,
    on_rows: OnRows | None = None,
) -> Classifier | LargeLayer:
    """Convert the arrays of a trained last layer to the model's order and orientation.

    A square W is taken as K×d, and refused if the loss is lower with its transpose.

    Class weights leave the penalty λ_H/2 ‖H‖² as it is. Sample weights that differ within a class
    become `column_weights`: the penalty is then λ_H/2 Σ c_i ‖h_i‖², with c of mean 1.

    Args:
        W: The classifier, (K, d) or (d, K).
        H: The features, (N, d) or (d, N), or a list of such shards.
        labels: N class labels 0..K-1 or 1..K in any order, N names, one-hot rows (N, K), or other
            rows (N, K) as targets of CE, LS, BCE or MSE: soft labels or sets of labels.
        loss: A loss, or text as `parse_loss` reads it.
        lam_w: Decay λ_W of W, in f = loss + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖²; None where the
            norm of W is confined.
        lam_h: Decay λ_H of H; None infers it from λ_W ‖W‖² = λ_H ‖H‖², which holds at critical
            points, or stands for none where the norm of H is confined.
        b: The bias (K,), or None.
        lam_b: Decay λ_b of the bias: needed with `b`, and only then.
        features: "rows" (N×d) or "columns" (d×N), needed only if N = d; the set of each feature
            vector, "nonnegative", "sphere", "sphere:RADIUS", "ball:RADIUS" or
            "budget:MEAN_SQUARE"; or both, "columns,sphere". Vectors outside of a set that confines
            norms are moved into it.
        classifier: "rows" (K×d) or "columns" (d×K), needed only if K = d; the set of each row of
            W, as for features but "nonnegative"; or both.
        class_weights: w (K,), positive, with a loss Σ_i w_{y_i} L_i / Σ_i w_{y_i}; None: all 1.
        sample_weights: s (N,), positive, with a loss Σ_i s_i L_i / Σ_i s_i; None: all 1.
        temperature: T > 0 of logits (WH + b)/T; None: 1.
        reduction: "mean" or "sum" if training minimised a loss of torch.nn with this reduction, or
            "sum_over_batch_size" for one of Keras; the decays are converted. None: a loss of this
            library, averaged over samples.
        ignore_index: Label of samples that the loss left out, which are dropped; None: -100.
        first_label: Label of the first class, 0 or 1; None: 1 if the labels are 1..K, else 0.
        class_names: Names of the classes, in the order of W; None: the labels, sorted.
        soft_labels: How rows of labels that are not one-hot are read: "targets", the loss against
            these rows, or "argmax", the class of the largest entry. None: targets.
        in_memory: Whether all features are converted in memory (a `Classifier`), or stay where they
            are and are read in blocks whenever they are needed (a `LargeLayer`, not for sets).
            None: in memory, unless features and logits are more than 4,000,000 numbers N(d + K),
            or 40,000,000 in sets.
        on_rows: Called after each block with the numbers of samples read and of all samples.

    Returns:
        The problem, the point with samples ordered by class, and notes on what was inferred.

    Raises:
        ValueError: The arrays are not a last layer; the message says what to change.
        TypeError: An array has a type that cannot be read; the message names the remedy.
    """
    several = isinstance(H, list | tuple) and all(np.ndim(shard) == 2 for shard in H)
    objective = Objective(
        parse_loss(loss) if isinstance(loss, str) else loss,
        lam_w,
        lam_h,
        lam_b,
        reduction,
        temperature,
        None if class_weights is None else host(class_weights),
        None if sample_weights is None else host(sample_weights),
    )
    stored = store_layer(
        host(W),
        [host(shard) for shard in H] if several else [host(H)],
        host(labels),
        None if b is None else host(b),
        objective,
        features=features,
        classifier=classifier,
        ignore_index=ignore_index,
        first_label=first_label,
        class_names=class_names,
        soft=soft_labels,
    )
    return _layer_of(stored, in_memory, on_rows)


def _layer_of(
    stored: StoredLayer, in_memory: bool | None, on_rows: OnRows | None
) -> Classifier | LargeLayer:
    if in_memory is None:
        in_memory = not is_large(stored)
    return to_classifier(stored) if in_memory else large_layer(stored, on_rows)


def to_classifier(stored: StoredLayer) -> Classifier:
    """Read the features into memory, infer λ_H if it is not known, and order samples by class."""
    order, H, notes = stored.order, stored.columns(), list(stored.notes)
    weights = None if stored.sample_weights is None else stored.sample_weights[order]
    if weights is not None:
        H *= np.sqrt(weights)
    lam_h, inferred = stored.lam_h, stored.infers_lam_h
    if inferred:
        lam_h = inferred_decay(stored.lam_w, stored.W, H)
        notes.insert(0, inferred_note(lam_h))
    dtype = jnp.result_type(float)
    problem = Problem(
        loss=stored.loss,
        class_counts=stored.class_counts,
        dim=stored.W.shape[1],
        lam_w=stored.lam_w,
        lam_h=lam_h,
        lam_b=stored.lam_b,
        column_weights=None if weights is None else jnp.asarray(weights, dtype),
        targets=stored.targets,
        temperature=stored.temperature,
        classifier=stored.sets.get("classifier"),
        features=stored.sets.get("features"),
    )
    b = None if stored.b is None else jnp.asarray(stored.b, dtype)
    params = Params(jnp.asarray(stored.W, dtype), jnp.asarray(H, dtype), b)
    if stored.sets:
        params, moved = into_sets(problem, params)
        notes += moved
    if stored.square:
        notes += _check_square(problem, params)
    return Classifier(problem, params, order, inferred, tuple(notes))


def _check_square(problem: Problem, params: Params) -> list[str]:
    """Note that a square W was read as K×d. Raises `ValueError` if it seems to be d×K.

    If g is convex and W is stationary given H, so that GHᵀ = −λ_W W, the transposed W has no
    lower g: g(WᵀH) ≥ g(WH) + ⟨GHᵀ, Wᵀ − W⟩ = g(WH) + λ_W (‖W‖² − ⟨W, Wᵀ⟩).
    """
    W = np.asarray(params.W)
    if np.array_equal(W, W.T):
        return []
    if problem.lam_w is None:
        return [SQUARE_NOTE]
    turned = dataclasses.replace(params, W=params.W.T)
    fit, turned_fit = (float(data_loss(problem, logits(problem, x))) for x in (params, turned))
    if turned_fit < fit - 1e-6 * abs(fit):
        raise ValueError(
            f"W is {len(W)} x {len(W)}, as many classes as features, and seems to be transposed: "
            f"the loss is {fit:.3g} as K x d and {turned_fit:.3g} as d x K: say how it is stored "
            f"with {SQUARE_FLAGS}"
        )
    return [SQUARE_NOTE]
