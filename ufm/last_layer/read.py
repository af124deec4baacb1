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
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ufm._support.host_arrays import host, real
from ufm._support.npz import read_arrays
from ufm._support.shown import Shown
from ufm.last_layer.arrays import (
    Layout,
    check_beside,
    check_finite,
    check_labels,
    flat_labels,
    layouts,
)
from ufm.losses import Loss, loss_spec, parse_loss
from ufm.model.params import Params
from ufm.model.problem import Problem, data_loss, logits

_REQUIRED = ("W", "H", "labels", "lam_w", "loss")
_OPTIONAL = ("b", "lam_h", "lam_b")
_SCALARS = ("lam_w", "lam_h", "lam_b", "loss")


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
    path: str | os.PathLike[str],
    *,
    loss: str | None = None,
    lam_w: float | None = None,
    lam_h: float | None = None,
    lam_b: float | None = None,
    features: Layout | None = None,
    classifier: Layout | None = None,
) -> Classifier:
    """Read a trained last layer from an .npz file.

    The file contains W, H and labels, and optionally b, lam_w, lam_h, lam_b and loss.

    Arguments override the file, and `notes` says so; `notes` also lists the arrays that were not
    read.

    Args:
        path: The file.
        loss: Text as `parse_loss` reads it; None reads the file's.
        lam_w: Decay of W; None reads the file's.
        lam_h: Decay of H; None reads the file's, or infers it as `as_classifier` does.
        lam_b: Decay of the bias; None reads the file's.
        features: "rows" (N×d) or "columns" (d×N); needed only if N = d.
        classifier: "rows" (K×d) or "columns" (d×K); needed only if K = d.

    Returns:
        The problem, the point with samples ordered by class, and notes on what was inferred.

    Raises:
        ValueError: The file cannot be read or has no last layer, or an array (class weights, a
            temperature) makes it a different problem; the message says what to change.
    """
    arrays, others = read_arrays(path, (*_REQUIRED, *_OPTIONAL))
    check_beside(path, others, (*_REQUIRED, *_OPTIONAL), arrays)
    spec = None if loss is None else loss_spec(parse_loss(loss))
    given = {"loss": spec, "lam_w": lam_w, "lam_h": lam_h, "lam_b": lam_b}
    values: dict[str, Any] = {
        name: _scalar(name, arrays[name]) for name in _SCALARS if name in arrays
    }
    notes = []
    for name, value in given.items():
        if value is None:
            continue
        if name in values and values[name] != value:
            notes.append(f"the given {name} = {value} overrides {values[name]} of the file")
        values[name] = value
    present = {**arrays, **values}
    for name in _REQUIRED:
        if name not in present:
            has = ", ".join(sorted([*arrays, *others])) or "nothing"
            remedy = f", or give `{name}`" if name in _SCALARS else ""
            raise ValueError(f"{path} has no {name} (it has {has}): add it{remedy}")
    if others:
        notes.append(f"not used: {', '.join(others)}")
    layer = as_classifier(
        arrays["W"],
        arrays["H"],
        arrays["labels"],
        b=arrays.get("b"),
        features=features,
        classifier=classifier,
        **values,
    )
    return dataclasses.replace(layer, notes=(*notes, *layer.notes))


def as_classifier(
    W: Any,
    H: Any,
    labels: Any,
    *,
    loss: Loss | str,
    lam_w: float,
    lam_h: float | None = None,
    b: Any = None,
    lam_b: float | None = None,
    features: Layout | None = None,
    classifier: Layout | None = None,
) -> Classifier:
    """Convert the arrays of a trained last layer to the model's order and orientation.

    A square W is taken as K×d, and refused if the loss is lower with its transpose.

    Args:
        W: The classifier, (K, d) or (d, K).
        H: The features, (N, d) or (d, N).
        labels: N class labels 0..K-1 in any order, or one-hot rows (N, K).
        loss: A loss, or text as `parse_loss` reads it.
        lam_w: Decay λ_W of W, in f = loss + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖².
        lam_h: Decay λ_H of H; None infers it from λ_W ‖W‖² = λ_H ‖H‖², which holds at critical
            points.
        b: The bias (K,), or None.
        lam_b: Decay λ_b of the bias: needed with `b`, and only then.
        features: "rows" (N×d) or "columns" (d×N); needed only if N = d.
        classifier: "rows" (K×d) or "columns" (d×K); needed only if K = d.

    Returns:
        The problem, the point with samples ordered by class, and notes on what was inferred.

    Raises:
        ValueError: The arrays are not a last layer; the message says what to change.
        TypeError: An array has a type that cannot be read; the message names the remedy.
    """
    given = {name: host(x) for name, x in (("W", W), ("H", H), ("b", b)) if x is not None}
    y, notes = flat_labels(host(labels))
    by_class, by_sample = layouts(given["W"].shape, given["H"].shape, len(y), classifier, features)
    matrices = {name: real(name, array) for name, array in given.items()}
    weights = matrices["W"] if by_class == "rows" else matrices["W"].T
    classes, dim = weights.shape
    if classes < 2:
        raise ValueError(
            f"W must be K x d with at least 2 classes and 1 feature, got shape {given['W'].shape}; "
            "the row w of a sigmoid is W = [-w/2, w/2], b alike, with twice lam_w and lam_b"
        )
    y = check_labels(y, classes)
    if b is not None and matrices["b"].shape != (classes,):
        raise ValueError(
            f"b must have one entry for each of the {classes} classes of W, got shape "
            f"{matrices['b'].shape}"
        )
    for name, array in matrices.items():
        check_finite(name, array)
    lam_b = _bias_decay(b, lam_b)
    notes = _notes(given, y, by_class, by_sample) + notes

    order = np.argsort(y, kind="stable")
    columns = (matrices["H"].T if by_sample == "rows" else matrices["H"])[:, order]
    inferred = lam_h is None
    if lam_h is None:
        lam_h = inferred_decay(lam_w, weights, columns)
        notes.insert(0, inferred_note(lam_h))
    problem = Problem(
        loss=parse_loss(loss) if isinstance(loss, str) else loss,
        class_counts=tuple(int(n) for n in np.bincount(y, minlength=classes)),
        dim=dim,
        lam_w=lam_w,
        lam_h=lam_h,
        lam_b=lam_b,
    )
    dtype = jnp.result_type(float)
    params = Params(
        jnp.asarray(weights, dtype),
        jnp.asarray(columns, dtype),
        None if b is None else jnp.asarray(matrices["b"], dtype),
    )
    if classifier is None and classes == dim:
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
    turned = dataclasses.replace(params, W=params.W.T)
    fit, turned_fit = (float(data_loss(problem, logits(problem, x))) for x in (params, turned))
    flags = "`classifier` rows (K x d, as PyTorch does) or `classifier` columns (d x K, as Flax "
    flags += "and Keras do)"
    if turned_fit < fit - 1e-6 * abs(fit):
        raise ValueError(
            f"W is {len(W)} x {len(W)}, as many classes as features, and seems to be transposed: "
            f"the loss is {fit:.3g} as K x d and {turned_fit:.3g} as d x K: say how it is stored "
            f"with {flags}"
        )
    return [f"W is square and is read as K x d, one row for each class: else give {flags}"]


def _scalar(name: str, array: np.ndarray) -> Any:
    """The single number or text in an array."""
    if array.size != 1:
        raise ValueError(f"{name} must be a single value, got an array of shape {array.shape}")
    value = array.reshape(()).item()
    if name == "loss":
        value = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        if not isinstance(value, str):
            raise ValueError(f"loss must be text such as 'ce' or 'ls:0.1', got {value!r}")
        return loss_spec(parse_loss(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _bias_decay(b: Any, lam_b: float | None) -> float | None:
    if b is not None and lam_b is None:
        raise ValueError(
            "b is given without its decay: give `lam_b`, 0 for a bias that was trained "
            "without decay"
        )
    if b is None and lam_b is not None:
        raise ValueError(
            "lam_b is given but there is no b: add b, or leave lam_b out for a model without a bias"
        )
    return lam_b


def inferred_decay(lam_w: float, W: np.ndarray, H: np.ndarray) -> float:
    """λ_H = λ_W ‖W‖²/‖H‖², which holds at every critical point. Raises `ValueError` for H = 0."""
    size_w, size_h = float(np.linalg.norm(W)), float(np.linalg.norm(H))
    if not size_h > 0:
        what = "so small that its squares are zero" if np.any(H) else "zero"
        raise ValueError(f"H is {what}, so that lam_h cannot be inferred: give `lam_h`")
    return float(lam_w) * (size_w / size_h) ** 2


def inferred_note(lam_h: float) -> str:
    """The note on an inferred decay."""
    return (
        f"lam_h = {lam_h:.6g} is inferred as lam_w |W|^2 / |H|^2: the verdict concerns the "
        "problem with this decay"
    )


def _notes(
    given: dict[str, np.ndarray], y: np.ndarray, by_class: Layout, by_sample: Layout
) -> list[str]:
    notes = []
    if by_class == "columns":
        notes.append("W is stored as d x K, as Flax and Keras do: it was transposed")
    if by_sample == "rows":
        notes.append("features are stored as rows (N x d), as PyTorch does")
    if np.any(np.diff(y) < 0):
        notes.append("samples were not ordered by class: they were sorted, stably")
    narrow = {
        f"{name} ({array.dtype})" for name, array in given.items() if array.dtype != np.float64
    }
    if narrow:
        notes.append(f"converted to float64 for all computations: {', '.join(sorted(narrow))}")
    return notes
