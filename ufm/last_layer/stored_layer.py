"""A trained last layer as it is stored: its features are shards on disk until they are needed.

`ufm.last_layer.read` converts it to a problem and a point of the model.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from ufm._support.host_arrays import check_real
from ufm.last_layer.arrays import Layout, finite, layouts
from ufm.last_layer.as_trained import Objective, as_trained
from ufm.last_layer.labels import class_numbers, flat_labels
from ufm.last_layer.sets import layout_and_set, sets_of
from ufm.last_layer.soft_labels import Soft, is_soft, largest_entries, soft_labels
from ufm.losses import Loss
from ufm.model.checks import checked_decays
from ufm.model.constraints import Constraint

#: How a square W can be stored, and what is said where its shape is all that is known.
SQUARE_FLAGS = (
    "`classifier` rows (K x d, as PyTorch does) or `classifier` columns (d x K, as Flax and Keras "
    "do)"
)
SQUARE_NOTE = f"W is square and is read as K x d, one row for each class: else give {SQUARE_FLAGS}"


@dataclasses.dataclass(frozen=True)
class StoredLayer:
    """A last layer in the model's normalisation, with features that have not been read.

    The M stored samples are the rows of `shards`, one after another, or their columns if `layout`
    is "columns". Shards may be memory-mapped, and have the dtype of the file. `labels` are 0..K-1,
    and -1 for samples that the loss ignored; the N others are the samples of the model.

    `W` (K, d), `b` (K,) or None and the decays are those of

        f = Σ_i c_i L(W h_i + b, y_i) / Σ_i c_i + λ_W/2 ‖W‖² + λ_H/2 Σ_i c_i ‖h_i‖² + λ_b/2 ‖b‖².

    c = `sample_weights` (M,), with mean 1 over the N samples; None stands for c = 1. Class weights
    are part of `loss`, which leaves the penalty of the features as it is. `lam_h` is None if it
    is to be inferred (`infers_lam_h`). `notes` say how the layer was read, and `square` that W was
    taken as rows because its shape does not tell. `sets` are those of `ufm.last_layer.sets` by
    factor, and W is not in them yet; with a `temperature` logits are W h/τ + b.
    """

    W: Float[np.ndarray, "K d"]
    b: Float[np.ndarray, " K"] | None
    shards: tuple[Shaped[np.ndarray, "_ _"], ...]
    layout: Layout
    labels: Int[np.ndarray, " M"]
    loss: Loss
    lam_w: Any
    lam_h: Any
    lam_b: Any
    sample_weights: Float[np.ndarray, " M"] | None
    square: bool
    notes: tuple[str, ...]
    #: The targets of groups of samples, whose numbers `labels` then are; None for class labels.
    targets: Float[np.ndarray, "m K"] | None = None
    sets: Mapping[str, Constraint] = dataclasses.field(default_factory=dict)
    temperature: float | None = None

    @property
    def infers_lam_h(self) -> bool:
        """Whether H has a decay that is not known."""
        return self.lam_h is None and not _is_confined(self.sets.get("features"))

    @property
    def class_counts(self) -> tuple[int, ...]:
        """n_1, …, n_K, or the sizes of the groups of samples with equal targets."""
        kept = self.labels[self.labels >= 0]
        return tuple(np.bincount(kept, minlength=len(self.W) * (self.targets is None)).tolist())

    @property
    def order(self) -> Int[np.ndarray, " N"]:
        """The positions of the samples of class 1, then of class 2, …, in their stored order."""
        order = np.argsort(self.labels, kind="stable")
        return order[np.count_nonzero(self.labels < 0) :]

    def columns(self) -> Float[np.ndarray, "d N"]:
        """All features in double precision, ordered by class, in memory.

        Raises `ValueError` for entries that are not finite.
        """
        order = self.order
        H, place = np.empty((self.W.shape[1], len(order))), np.full(len(self.labels), -1)
        place[order], start = np.arange(len(order)), 0
        for shard in self.shards:
            numbers = finite("H", shard)
            rows = numbers if self.layout == "rows" else numbers.T
            to = place[start : start + len(rows)]
            H[:, to[to >= 0]] = rows[to >= 0].T
            start += len(rows)
        return H


def store_layer(
    W: np.ndarray,
    shards: Sequence[np.ndarray],
    labels: np.ndarray,
    b: np.ndarray | None,
    objective: Objective,
    *,
    features: str | None = None,
    classifier: str | None = None,
    ignore_index: int | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
    soft: Soft | None = None,
) -> StoredLayer:
    """Orient W, number the labels, and normalise the objective; features are not read.

    Arguments are those of `ufm.last_layer.read.as_classifier`, which says what it raises.
    """
    table, of_labels = None, []
    if is_soft(labels):
        y, table, of_labels = _of_rows(labels, objective, soft)
    else:
        y, of_labels = flat_labels(labels)
    shapes = [shard.shape for shard in shards]
    of_w, of_h = layout_and_set("classifier", classifier), layout_and_set("features", features)
    by_class, by_sample = layouts(W.shape, shapes, len(y), of_w[0], of_h[0])
    check_real("H", shards[0].dtype)
    oriented = finite("W", W) if by_class == "rows" else finite("W", W).T
    classes, dim = oriented.shape
    if classes < 2:
        raise ValueError(
            f"W must be K x d with at least 2 classes and 1 feature, got shape {W.shape}; the row "
            "w of a sigmoid is W = [-w/2, w/2], b alike, with twice lam_w and lam_b"
        )
    of_numbers: list[str] = []
    if table is None:
        y, of_numbers = class_numbers(y, classes, ignore_index, first_label, class_names)
    elif table.shape[1] != classes:
        raise ValueError(
            f"soft labels must be N x K, a row for each sample, got shape {labels.shape}, and W "
            f"has {classes} classes"
        )
    if b is not None and b.shape != (classes,):
        raise ValueError(
            f"b must have one entry for each of the {classes} classes of W, got shape {b.shape}"
        )
    _check_bias_decay(b, objective.lam_b)
    sets = sets_of(of_w[1], of_h[1], classes, dim)
    _check_decays(sets, objective)
    confined = any(map(_is_confined, sets.values()))
    trained, of_objective = as_trained(objective, y if table is None else 0 * y, classes, confined)
    T = 1.0 if objective.temperature is None else objective.temperature
    kinds = {"W": W.dtype, "H": shards[0].dtype} | ({} if b is None else {"b": b.dtype})
    notes = [*_layout_notes(by_class, by_sample, y), *_dtype_notes(kinds)]
    return StoredLayer(
        W=oriented if confined else oriented / T,
        b=None if b is None else finite("b", b) / T,
        shards=tuple(shards),
        layout=by_sample,
        labels=y,
        loss=trained.loss,
        lam_w=trained.lam_w,
        lam_h=trained.lam_h,
        lam_b=trained.lam_b,
        sample_weights=trained.sample_weights,
        square=of_w[0] is None and classes == dim,
        notes=(*notes, *of_labels, *of_numbers, *of_objective),
        targets=table,
        sets=sets,
        temperature=trained.temperature,
    )


def _is_confined(given: Constraint | None) -> bool:
    """Whether a set confines the norm of a factor, which then has no decay."""
    return given is not None and not given.decayed


def _check_decays(sets: Mapping[str, Constraint], objective: Objective) -> None:
    """Raise `ValueError` for a decay beside a confined norm, and for one that is missing."""
    given = {"lam_w": objective.lam_w}
    if objective.lam_h is not None or _is_confined(sets.get("classifier")):
        given["lam_h"] = objective.lam_h
    checked_decays({"classifier": None, "features": None} | dict(sets), **given)


def _of_rows(
    labels: np.ndarray, objective: Objective, soft: Soft | None
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """The classes of soft labels, or the groups of equal rows and those rows; and a note."""
    if soft == "argmax":
        y, note = largest_entries(labels)
        return y, None, [note]
    for name in ("class_weights", "sample_weights"):
        if getattr(objective, name) is not None:
            raise ValueError(
                f"{name} of soft labels are not supported: leave them out, or give `soft_labels` "
                "argmax for the class of the largest entry"
            )
    found = soft_labels(labels, objective.loss)
    return found.groups, found.table, [found.note]


def _check_bias_decay(b: np.ndarray | None, lam_b: Any) -> None:
    if b is not None and lam_b is None:
        raise ValueError(
            "b is given without its decay: give `lam_b`, 0 for a bias that was trained "
            "without decay"
        )
    if b is None and lam_b is not None:
        raise ValueError(
            "lam_b is given but there is no b: add b, or leave lam_b out for a model without a bias"
        )


def _layout_notes(by_class: Layout, by_sample: Layout, y: np.ndarray) -> list[str]:
    notes = []
    if by_class == "columns":
        notes.append("W is stored as d x K, as Flax and Keras do: it was transposed (`classifier`)")
    if by_sample == "rows":
        notes.append("features are stored as rows (N x d), as PyTorch does (`features`)")
    kept = y[y >= 0]
    if np.any(np.diff(kept) < 0):
        notes.append("samples were not ordered by class: they were sorted, stably")
    return notes


def _dtype_notes(kinds: dict[str, np.dtype]) -> list[str]:
    narrow = sorted(f"{name} ({kind})" for name, kind in kinds.items() if kind != np.float64)
    return [f"stored in lower precision than float64: {', '.join(narrow)}"] if narrow else []
