r"""Convert the training objective of a last layer to the model's normalisation, exactly.

Training minimises, with logits (W h_i + b)/T, weights u_i = s_i w_{y_i} of samples and classes,

    S Σ_i u_i L_i / Σ_i u_i + λ_W/2 ‖W‖² + λ_b/2 ‖b‖².

Divided by S, and in terms of W/T and b/T, which give the same logits, this is the model with the
decays T² λ_W / S and T² λ_b / S; of the features, whose decay belongs to the model alone, λ_H / S.

**S.** With L the losses of this library, frameworks minimise

    reduction              cross-entropy, focal    MSE
    mean                   1                       2/K        torch.nn; Keras without weights
    sum                    Σ u_i                   2 Σ u_i    torch.nn
    sum_over_batch_size    Σ u_i / N               2 Σ u_i / (KN)    Keras

because their squared error is a mean or a sum over the outputs, and here half of a sum.

**Class weights** multiply the loss of each class (`ClassWeighted`), and leave the penalty
λ_H/2 ‖H‖² of the features as it is.

**Confined norms** have no decay. T is then the temperature of the model, whose logits are
W h_i/T + b/T, and W stays as it is.

**Sample weights** that differ within a class become column weights c_i = N s_i / Σ s: sample i then
counts as c_i samples also in the penalty, which is λ_H/2 Σ_i c_i ‖h_i‖². With this penalty samples
of a class have equal features at every critical point, whatever their weights.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped

from ufm.last_layer.arrays import check_real
from ufm.losses import MSE, ClassWeighted, LabelSmoothing, Loss

Reduction = Literal["mean", "sum", "sum_over_batch_size"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What was minimised: the loss, its decays, and how the loss was averaged, as frameworks say.

    `class_weights` (K,) and `sample_weights` (M,) multiply the loss of a class and of a sample;
    None stands for 1. `reduction` None is the average of this library's losses over samples.
    """

    loss: Loss
    lam_w: Any
    lam_h: Any
    lam_b: Any
    reduction: Reduction | None = None
    temperature: float | None = None
    class_weights: Shaped[np.ndarray, "..."] | None = None
    sample_weights: Shaped[np.ndarray, "..."] | None = None


def as_trained(
    objective: Objective, y: Int[np.ndarray, " M"], classes: int, confined: bool = False
) -> tuple[Objective, list[str]]:
    """The objective in the model's normalisation, with notes.

    Labels `y` are -1 for samples that are left out. In the result the loss has its class weights,
    sample weights c have mean 1, or are None, and there is no reduction. b is to be divided by the
    temperature, and W unless a norm is `confined`: only then the result has a temperature.

    Raises `ValueError` if a weight is not a positive number, or the numbers of weights are wrong.
    """
    kept, notes = y >= 0, []
    s, w = np.ones(len(y)), np.ones(classes)
    if objective.class_weights is not None:
        w = _positive("class_weights", objective.class_weights, classes, "classes of W")
        _check_smoothing(objective, w)
    if objective.sample_weights is not None:
        s = _positive("sample_weights", objective.sample_weights, len(y), "labels")
    u = s[kept] * w[y[kept]]
    of_class = [] if objective.sample_weights is None else [s[y == k] for k in range(classes)]
    if of_class and all(np.all(x == x[0]) for x in of_class):
        notes.append(
            "sample weights are equal within classes: they are class weights (`sample_weights`)"
        )
        w, s = w * np.array([x[0] for x in of_class]), np.ones(len(y))
    c = s / np.mean(s[kept])
    a = w * np.sum(kept) / np.sum(c[kept] * w[y[kept]])
    loss, column_weights = objective.loss, None
    if np.any(a != a[0]):
        loss = ClassWeighted(loss, jnp.asarray(a, jnp.result_type(float)))
        notes.append(
            "class weights: f averages w_y L over samples and divides by the average of w_y, as "
            "PyTorch does; the penalty of the features is lam_h/2 |H|^2 without weights "
            "(`class_weights`)"
        )
    if np.any(c[kept] != 1.0):
        column_weights = c
        notes.append(
            "sample weights c_i, scaled to mean 1: f averages c_i L_i, and sample i counts as c_i "
            "samples in the penalty of the features, too, lam_h/2 sum_i c_i |h_i|^2 "
            "(`sample_weights`)"
        )
    size, T = _scale(objective, u, classes), objective.temperature
    if size != 1.0:
        notes.append(
            f"the loss of training is {size:.6g} times that of the model: all decays were divided "
            "by this (`reduction`)"
        )
    lam_w, lam_h, lam_b = (
        x if x is None or size == 1.0 else x / size
        for x in (objective.lam_w, objective.lam_h, objective.lam_b)
    )
    if T is not None:
        if not (np.isfinite(T) and T > 0):
            raise ValueError(f"temperature must be positive and finite, got {T}")
        lam_b = None if lam_b is None else T**2 * lam_b
        if not confined:
            lam_w = None if lam_w is None else T**2 * lam_w
            notes.append(
                f"logits were divided by T = {T:g}: the point is W/T, b/T with T^2 lam_w, "
                "T^2 lam_b, which is the same problem (`temperature`)"
            )
    left = T if confined else None
    converted = Objective(
        loss, lam_w, lam_h, lam_b, temperature=left, sample_weights=column_weights
    )
    return converted, notes


def _positive(name: str, weights: np.ndarray, count: int, what: str) -> np.ndarray:
    check_real(name, weights.dtype)
    array = weights.astype(np.float64)
    if array.size != count or max(array.shape, default=1) != count:
        raise ValueError(
            f"{name} must have one number for each of the {count} {what}, got shape {array.shape}"
        )
    if not np.all(np.isfinite(array) & (array > 0)):
        remedy = ""
        if name == "sample_weights":
            remedy = ": leave samples without weight out, with the label -100"
        raise ValueError(f"{name} must be positive and finite{remedy}")
    return array.reshape(-1)


def _check_smoothing(objective: Objective, w: np.ndarray) -> None:
    """PyTorch multiplies entry j of a smoothed label by w_j, and Keras the loss of a sample."""
    loss = objective.loss
    smoothed = isinstance(loss, LabelSmoothing) and float(loss.alpha) > 0
    if smoothed and np.any(w != w[0]) and objective.reduction != "sum_over_batch_size":
        raise ValueError(
            "class_weights of a smoothed loss multiply the entries of smoothed labels in PyTorch, "
            "which is a different problem, not certified here: if they multiplied the loss of each "
            "sample, give `sample_weights`, w of its class"
        )


def _scale(objective: Objective, u: np.ndarray, classes: int) -> float:
    """S of the module."""
    reduction = objective.reduction
    if reduction not in (None, "mean", "sum", "sum_over_batch_size"):
        raise ValueError(
            f"reduction must be 'mean', 'sum' or 'sum_over_batch_size', got {reduction!r}"
        )
    if reduction is None:
        return 1.0
    totals = {"mean": 1.0, "sum": float(np.sum(u)), "sum_over_batch_size": float(np.mean(u))}
    squares = 2.0 if reduction == "sum" else 2.0 / classes
    return totals[reduction] * (squares if isinstance(objective.loss, MSE) else 1.0)
