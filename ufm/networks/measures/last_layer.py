r"""Measure a network's last layer as a point of the unconstrained feature model.

**Decays.** A network trained on c·(1/N) Σ L(v_i, y_i) + (wd/2)‖θ‖², divided by c, has the model's
data term g and the decays λ_W = λ_b = wd/c. (The MSE with targets 15·one-hot that averages over K
outputs and has no ½ is c L with L = MSE(1, 15), c = 2/K.) Features have no decay in training. If
they had a decay λ_H, every critical point would have λ_W‖W‖² = λ_H‖H‖², and so

    λ_H = λ_W ‖W‖² / ‖H‖²                                              (from balance)
    λ_H' = argmin_λ ‖λH + WᵀG‖² = −⟨WᵀG, H⟩ / ‖H‖²                     (from the features).

If W is stationary, GHᵀ = −λ_W W, the inner product ⟨WᵀG, H⟩ = ⟨GHᵀ, W⟩ is −λ_W‖W‖², and both
numbers are equal. The first is used. λ_H'/λ_H = −⟨GHᵀ, W⟩/(λ_W‖W‖²) is 1 − ⟨∂_W f, W⟩/(λ_W‖W‖²),
which measures, with a sign, how far W is from stationary in its own direction: above 1 the loss
term still increases W.

**Two views.** `as_trained` is the unchanged layer, with its bias decayed by λ_b. Features after a
ReLU are non-negative, so that their global mean h̄ is not 0, whereas the predicted minimisers for
cross-entropy, label smoothing and focal loss with balanced classes (and MSE with a free bias) have
H1 = 0. The squared distance to such a minimiser contains all of N‖h̄‖², since cross terms vanish.
Even with orthogonal class features, the best that a ReLU allows, a network is at least that far
away. Likewise ‖G‖₂/μ stays away from 1: if W is stationary and G1 = 0, λ_W‖W‖ = ‖GH̃ᵀ‖ ≤ ‖G‖₂‖H̃‖
implies ‖G‖₂/μ ≥ ‖H‖/‖H̃‖, which is at least √(K/(K−1)) for collapsed non-negative features.
`centred` is therefore the same classifier with the mean moved to the bias
(`ufm.last_layer.centring`), a point of the model with a *free* bias, λ_b = 0, and λ_H inferred from
‖H̃‖. It removes only the mean, which no critical point has. With balanced classes and below the
collapse threshold, its minimiser is a simplex ETF: proven for CE, LS and MSE, and for the focal
loss if (K−1)μ√n ≤ 1.

**Distances** use coordinates in which both decays are μ, (aW, H/a) with a = (λ_W/λ_H)^¼, and in
which W and H at balance have equal norms; otherwise N features would dominate W.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.last_layer.centring import centred
from ufm.losses import Loss
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.networks.measures.compression import compressed
from ufm.networks.measures.evaluation import LastLayer
from ufm.networks.measures.model_view import ModelView, undefined, view

_NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class LastLayerMeasures:
    """NC1–NC4, norms, and both views; see the module.

    NC metrics centre class means themselves, and are equal for both views.
    """

    nc1: float
    nc2: float
    nc3: float
    nc4: float
    within_between_ratio: float
    norm_w: float
    norm_h: float
    norm_b: float
    as_trained: ModelView
    centred: ModelView

    def row(self) -> dict[str, float]:
        """All numbers under flat names for a history; those of `centred` begin with "centred_".

        `verdict` is the code of `ufm.Verdict`.
        """
        own = {
            field.name: float(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name not in ("as_trained", "centred")
        }
        for prefix, seen in (("", self.as_trained), ("centred_", self.centred)):
            for field in dataclasses.fields(seen):
                own[prefix + field.name] = float(getattr(seen, field.name))
        return own


def measure_last_layer(
    W: Any,
    H: Any,
    b: Any,
    class_counts: Sequence[int],
    loss: Loss,
    factor: float,
    weight_decay: float,
) -> LastLayerMeasures:
    """Measure W (K, d), H (d, N) with columns sorted by class, and b (K,) or None.

    The network was trained on `factor` times the mean of `loss` plus `weight_decay`/2 times all
    squares. Computations are in float64. A diverged network (not finite) gives NaN and UNDECIDED,
    so that training can continue; so do the model's numbers if W or H is zero.

    N = 60,000, d = 512, K = 10 take 1.7 s on two cores, plus 10 s to compile the first time.

    Raises `ValueError` for shapes that do not fit, for a factor that is not positive, for a
    negative weight decay, and if float64 is not enabled in JAX.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "measures of a last layer need double precision: "
            'jax.config.update("jax_enable_x64", True) before any array is made'
        )
    if not (factor > 0 and math.isfinite(factor)):
        raise ValueError(f"factor must be positive and finite, got {factor}")
    if not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise ValueError(f"weight_decay must be non-negative and finite, got {weight_decay}")
    W, H = (np.asarray(x, np.float64) for x in (W, H))
    b = None if b is None else np.asarray(b, np.float64)
    _check_shapes(W, H, b, class_counts)
    decay = float(weight_decay) / float(factor)
    problem = Problem(
        loss=loss,
        class_counts=tuple(class_counts),
        dim=W.shape[1],
        lam_w=decay,
        lam_h=decay,
        lam_b=None if b is None else decay,
    )
    norms: dict[str, Any] = {
        "norm_w": float(np.linalg.norm(W)),
        "norm_h": float(np.linalg.norm(H)),
        "norm_b": 0.0 if b is None else float(np.linalg.norm(b)),
    }
    names = [field.name for field in dataclasses.fields(NCMetrics)]
    if not all(map(math.isfinite, norms.values())):
        nothing: dict[str, Any] = dict.fromkeys(names, _NAN)
        free = undefined(dataclasses.replace(problem, lam_b=0.0))
        return LastLayerMeasures(**nothing, **norms, as_trained=undefined(problem), centred=free)
    params = Params(*jax.tree.map(jnp.array, (W, H, b)))
    problem, params = compressed(problem, params)
    free = dataclasses.replace(problem, lam_b=0.0)
    metrics = jax.device_get(nc_metrics(problem, params))
    return LastLayerMeasures(
        **{name: float(getattr(metrics, name)) for name in names},
        **norms,
        as_trained=view(problem, params),
        centred=view(free, centred(params)),
    )


def beside_model(layer: LastLayer) -> dict[str, float]:
    """`measure_last_layer` of a network in training, in the form of `measure` for `train`.

    Quantities that training measures itself are omitted.
    """
    counts = np.bincount(layer.labels).tolist()
    # The layer's decay is that of the model's loss already.
    found = measure_last_layer(layer.W, layer.H, layer.b, counts, layer.loss, 1.0, layer.lam_w)
    return {name: value for name, value in found.row().items() if name not in _MEASURED}


_MEASURED = ("nc1", "nc2", "nc3", "nc4", "norm_w", "norm_h")


def _check_shapes(W: Any, H: Any, b: Any, class_counts: Sequence[int]) -> None:
    """Raise `ValueError` unless the shapes fit each other and the classes."""
    classes, samples = len(class_counts), sum(class_counts)
    if W.ndim != 2 or len(W) != classes or not W.size:
        raise ValueError(
            f"W must have a row for each of the {classes} classes of class_counts, (K, d), got "
            f"shape {W.shape}"
        )
    if H.shape != (W.shape[1], samples):
        hint = ": transpose it" if H.shape == (samples, W.shape[1]) else ""
        raise ValueError(
            f"H must have shape {(W.shape[1], samples)}, a row for each column of W and a column "
            f"for each sample, got {H.shape}{hint}"
        )
    if b is not None and b.shape != (classes,):
        raise ValueError(f"b must have shape {(classes,)}, got {b.shape}")
