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

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.last_layer.feature_decay import centred_problem
from ufm.last_layer.read import Classifier
from ufm.model.objective import matmul
from ufm.model.params import Params


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

    None if the mean adds less to ‖H‖² than rounding does, if all features are equal, and for
    features in a set, which centred ones leave.
    """
    if layer.problem.variant is not None:
        return None
    params = centred(layer.params, layer.problem.column_weights)
    size, left = (float(jnp.sum(H**2)) for H in (layer.params.H, params.H))
    moved = float(jnp.sum((layer.params.H - params.H) ** 2))
    found = centred_problem(layer, np.asarray(params.W), size, left, moved)
    if found is None:
        return None
    problem, notes = found
    return dataclasses.replace(layer, problem=problem, params=params, notes=notes)
