r"""Move the mean of a layer's features into its bias: the logits stay, the penalty falls.

With the mean h̄ of the features,

    H̃ = H − h̄1ᵀ,   b̃ = b + Wh̄,   WH̃ + b̃1ᵀ = WH + b1ᵀ,   ‖H̃‖² = ‖H‖² − N‖h̄‖².

Logits, and so the loss term, do not change; f changes by −λ_H N‖h̄‖²/2 + λ_b(‖b̃‖² − ‖b‖²)/2.

With a free bias (λ_b = 0) centring never raises f, and every critical point with λ_H > 0 has h̄ =
0: G1 = 0, so 0 = WᵀG1 = −λ_H H1. Features after a ReLU are non-negative and cannot have h̄ = 0, so
that a layer on top of them is never critical, however collapsed. `centred_layer` is therefore a
point of the problem whose bias is *free*, for any decay of b. If b had no decay and λ_H was given,
this is the layer's own problem. A given λ_H is kept. An inferred λ_H is inferred again from ‖H̃‖,
because λ_W‖W‖² = λ_H‖H‖² must hold at the centred point.

With λ_b > 0 the two problems differ: centring may raise f, and critical points have
H1 = λ_b Wᵀb/λ_H. The least f with a free bias is at most that with a decayed bias or without one.

With weighted columns ĥ_i = √c_i h_i the mean is h̄ = Σ c_i h_i / Σ c, and ‖Ĥ‖² falls by Σc ‖h̄‖².
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.last_layer.read import Classifier, inferred_decay, inferred_note
from ufm.model.params import Params
from ufm.model.problem import Problem, matmul


def centred(params: Params, samples: Float[Array, " N"] | None = None) -> Params:
    """(W, H − h̄1ᵀ, b + Wh̄), with the same logits and features of mean 0; b = None counts as 0.

    H is (d, N); if its columns stand for `samples` c, they are √c_i h_i.
    """
    ones = jnp.ones(params.H.shape[1], params.H.dtype)
    roots = ones if samples is None else jnp.sqrt(jnp.asarray(samples, ones.dtype))
    mean = matmul(params.H, roots) / jnp.sum(roots**2)
    shift = matmul(params.W, mean)
    bias = shift if params.b is None else params.b + shift
    return Params(params.W, params.H - mean[:, None] * roots[None, :], bias)


def centred_layer(layer: Classifier) -> Classifier | None:
    """The layer with centred features in the problem with a free bias; its notes say so.

    None if the mean adds less to ‖H‖² than rounding does, or if all features are equal.
    """
    params = centred(layer.params, layer.problem.column_weights)
    size, left = (float(jnp.sum(H**2)) for H in (layer.params.H, params.H))
    moved = float(jnp.sum((layer.params.H - params.H) ** 2))
    found = centred_problem(layer, np.asarray(params.W), size, left, moved)
    if found is None:
        return None
    problem, notes = found
    return dataclasses.replace(layer, problem=problem, params=params, notes=notes)


def centred_problem(
    layer: Any, W: Float[np.ndarray, "K d"], size: float, left: float, moved: float
) -> tuple[Problem, tuple[str, ...]] | None:
    """The problem with a free bias of which the centred layer is a point, and its notes.

    None if the mean adds less to ‖H‖² than rounding does, or if all features are equal.

    Args:
        layer: The layer as given, with `problem`, `notes` and `lam_h_inferred`.
        W: Its classifier.
        size: ‖H‖².
        left: ‖H̃‖².
        moved: N‖h̄‖².
    """
    problem, eps = layer.problem, float(np.finfo(W.dtype).eps)
    if not (moved > eps * size and left > eps * size):
        return None
    lam_h = float(problem.lam_h)
    notes = [note for note in layer.notes if note != inferred_note(lam_h)]
    own = "" if problem.has_bias else ", which the layer does not have"
    said = (
        f"the mean of the features, {100 * moved / size:.3g} % of |H|^2, is moved into the bias"
        f"{own}: no logit changes, and the verdict concerns this point"
    )
    if layer.lam_h_inferred:
        # Of H̃ only the norm matters.
        lam_h = inferred_decay(float(problem.lam_w), W, np.sqrt([left]))
        notes.insert(0, inferred_note(lam_h))
    if problem.lam_b is not None and float(problem.lam_b) == 0 and not layer.lam_h_inferred:
        said += f" of the layer's own problem, where f is lower by {0.5 * lam_h * moved:.3g}"
    else:
        said += " of the problem with a free bias (lam_b = 0)"
    return dataclasses.replace(problem, lam_b=0.0, lam_h=lam_h), (said, *notes)
