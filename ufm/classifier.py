r"""Somebody's last layer, read as a point of the model: weights, features, labels and decays.

A network's last layer has W (K×d) and maybe b (K), the features of N samples, and their labels. It
is a point of the unconstrained feature model with classes of the sizes that the labels say, decay
λ_W of the classifier and λ_b of its bias as trained, and a decay λ_H of the features that no
network has: given, or inferred from λ_W WᵀW = λ_H HHᵀ, which holds at every critical point, as

    λ_H = λ_W ‖W‖² / ‖H‖².

**PyTorch.** `weight_decay` of torch.optim.SGD is λ, since it adds weight_decay·w to the gradient,
with a loss that averages over samples (CrossEntropyLoss does). MSELoss averages over the K outputs
too and has no ½: it is 2/K times the MSE here, and its decays are to be multiplied by K/2. Features
are stored as rows (N×d) there and as columns (d×N) here; both are recognised.

Arrays are taken to double precision, which changes no number. Samples are ordered by class, as
the model wants them, and `order` says where each came from.

    >>> layer = load_classifier("last_layer.npz", loss="ls:0.1")
    >>> certify(layer.problem, layer.params).verdict, layer.notes
"""

import dataclasses
import os
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ufm.archive import read_arrays
from ufm.losses import Loss, loss_spec, parse_loss
from ufm.params import Params
from ufm.problem import Problem

Layout = Literal["rows", "columns"]

_REQUIRED = ("W", "H", "labels", "lam_w", "loss")
_OPTIONAL = ("b", "lam_h", "lam_b")
_SCALARS = ("lam_w", "lam_h", "lam_b", "loss")


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A last layer as a problem and a point of it.

    Column i of `params.H` is sample `order[i]` of what was given. `notes` are sentences on what was
    assumed, inferred or changed on the way: whoever reports the result should report them.
    `lam_h_inferred` says that a verdict concerns the problem with the inferred decay.
    """

    problem: Problem
    params: Params
    order: Int[np.ndarray, " N"]
    lam_h_inferred: bool
    notes: tuple[str, ...]


def load_classifier(
    path: str | os.PathLike[str],
    *,
    loss: str | None = None,
    lam_w: float | None = None,
    lam_h: float | None = None,
    lam_b: float | None = None,
    features: Layout | None = None,
) -> Classifier:
    """Read the .npz of a last layer: W, H, labels, lam_w, loss, and maybe b, lam_b, lam_h.

    `loss` is text as `parse_loss` reads it. What is given here overrides the file, and `notes` says
    so. `features` says how the file stores H and is needed only where N = d. Raises `ValueError`,
    in one line that says what to change, for anything that is no last layer.
    """
    arrays, others = read_arrays(path, (*_REQUIRED, *_OPTIONAL))
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
            notes.append(f"{name} = {value}, as given, overrides {values[name]} of the file")
        values[name] = value
    present = {**arrays, **values}
    for name in _REQUIRED:
        if name not in present:
            has = ", ".join(sorted([*arrays, *others])) or "nothing"
            flag = f", or give --{name.replace('_', '-')}" if name in _SCALARS else ""
            raise ValueError(f"{path} has no {name} (it has {has}): add it{flag}")
    if others:
        notes.append(f"not used: {', '.join(others)}")
    layer = as_classifier(
        arrays["W"],
        arrays["H"],
        arrays["labels"],
        b=arrays.get("b"),
        features=features,
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
) -> Classifier:
    """A last layer from arrays: W (K, d), H (d, N) or (N, d), labels (N,), b (K,) or None.

    `lam_h=None` infers it (see the module). `lam_b` is needed with b, and only then. Raises
    `ValueError` or `TypeError`, naming what to change, as `load_classifier` does.
    """
    given = {"W": W, "H": H} | ({} if b is None else {"b": b})
    matrices = {name: _real(name, array) for name, array in given.items()}
    weights, raw = matrices["W"], matrices["H"]
    if weights.ndim != 2 or weights.shape[0] < 2 or weights.shape[1] < 1:
        raise ValueError(
            f"W must be K x d with at least 2 classes and 1 feature, got shape {weights.shape}"
        )
    classes, dim = weights.shape
    y = _labels(labels, classes)
    by_rows = _stored_by_rows(raw.shape, dim, len(y), classes, features)
    if b is not None and matrices["b"].shape != (classes,):
        raise ValueError(
            f"b must have one entry for each of the {classes} rows of W, got shape "
            f"{matrices['b'].shape}"
        )
    for name, array in matrices.items():
        _finite(name, array)
    lam_b = _bias_decay(b, lam_b)
    notes = _notes({"W": W, "H": H, "b": b}, y, by_rows)

    order = np.argsort(y, kind="stable")
    columns = (raw.T if by_rows else raw)[:, order]
    inferred = lam_h is None
    if lam_h is None:
        lam_h = inferred_decay(lam_w, weights, columns)
        notes.insert(
            0,
            f"lam_h = {lam_h:.6g} is inferred as lam_w |W|^2 / |H|^2: the verdict concerns the "
            "problem with this decay",
        )
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
    return Classifier(problem, params, order, inferred, tuple(notes))


def _scalar(name: str, array: np.ndarray) -> Any:
    """The one number, or text, that an array holds."""
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


def _real(name: str, array: Any) -> np.ndarray:
    """The array in double precision."""
    raw = np.asarray(array)
    if raw.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be an array of real numbers, got dtype {raw.dtype}")
    return raw.astype(np.float64)


def _finite(name: str, array: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ", ".join(str(i) for i in bad[0])
        raise ValueError(
            f"{name} has {len(bad)} of {array.size} entries NaN or infinite, the first at "
            f"[{where}]: a certificate needs finite numbers"
        )


def _labels(labels: Any, classes: int) -> np.ndarray:
    y = np.asarray(labels)
    if y.ndim != 1:
        raise ValueError(
            f"labels must be a list of N whole numbers, got shape {y.shape}: one-hot labels become "
            "that by argmax"
        )
    if y.dtype.kind not in "iuf" or not np.all(np.isfinite(y)) or np.any(y != np.floor(y)):
        raise ValueError(f"labels must be whole numbers 0..{classes - 1}, got dtype {y.dtype}")
    outside = np.flatnonzero((y < 0) | (y >= classes))
    if len(outside):
        i = outside[0]
        hint = ": subtract 1" if y.min() == 1 and y.max() == classes else ""
        raise ValueError(
            f"labels must lie in 0..{classes - 1} (W has {classes} rows), got {int(y[i])} at "
            f"sample {i}{hint}"
        )
    y = y.astype(np.int64)
    missing = np.flatnonzero(np.bincount(y, minlength=classes) == 0)
    if len(missing):
        shown = ", ".join(str(k) for k in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"labels has no sample of class {shown}: every row of W needs samples; add some, or "
            "drop those rows and renumber the labels"
        )
    return y


def _stored_by_rows(
    shape: tuple[int, ...], dim: int, samples: int, classes: int, features: Layout | None
) -> bool:
    """Is H stored N×d? Recognised by its shape; N = d needs to be told."""
    if features not in (None, "rows", "columns"):
        raise ValueError(f"features must be 'rows' or 'columns', got {features!r}")
    fits = {"columns": shape == (dim, samples), "rows": shape == (samples, dim)}
    expected = f"({dim}, {samples}) by columns or ({samples}, {dim}) by rows"
    if not any(fits.values()):
        hint = ": W may be transposed, it must be K x d" if classes in shape else ""
        raise ValueError(
            f"H must have shape {expected} for W with {dim} columns and {samples} labels, got "
            f"{shape}{hint}"
        )
    if features is None:
        if all(fits.values()):
            raise ValueError(
                f"H is {dim} x {dim}, as many samples as features: say how it is stored with "
                "--features rows (N x d, as PyTorch does) or --features columns (d x N)"
            )
        return fits["rows"]
    if not fits[features]:
        raise ValueError(
            f"H has shape {shape}, which is not stored by {features}: it must be {expected}"
        )
    return features == "rows"


def _bias_decay(b: Any, lam_b: float | None) -> float | None:
    if b is not None and lam_b is None:
        raise ValueError(
            "b is given without its decay: give lam_b (--lam-b), 0 for a bias that was trained "
            "without decay"
        )
    if b is None and lam_b is not None:
        raise ValueError(
            "lam_b is given but there is no b: add b, or leave lam_b out for a model without a bias"
        )
    return lam_b


def inferred_decay(lam_w: float, W: np.ndarray, H: np.ndarray) -> float:
    """λ_H = λ_W ‖W‖²/‖H‖², which holds at every critical point. Raises `ValueError` for H = 0."""
    size_w, size_h = np.linalg.norm(W), np.linalg.norm(H)
    if not size_h > 0:
        raise ValueError("H is zero, so that lam_h cannot be inferred: give lam_h (--lam-h)")
    return float(lam_w) * float(size_w / size_h) ** 2


def _notes(given: dict[str, Any], y: np.ndarray, by_rows: bool) -> list[str]:
    notes = []
    if by_rows:
        notes.append("features are stored as rows (N x d), as PyTorch does")
    if np.any(np.diff(y) < 0):
        notes.append("samples were not ordered by class: they were reordered, stably")
    narrow = {
        f"{name} ({dtype})"
        for name, array in given.items()
        if array is not None and (dtype := np.asarray(array).dtype) != np.float64
    }
    if narrow:
        notes.append(f"taken to float64, in which all is computed: {', '.join(sorted(narrow))}")
    return notes
