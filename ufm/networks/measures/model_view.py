"""A last layer as a point of one instance of the model; see `ufm.networks.measures.last_layer`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import always_compiled
from ufm.certificates.certificate import Certificate, Verdict, certify
from ufm.collapse.metrics import distance_from_frame
from ufm.collapse.symmetric_solution import collapse_threshold, supported
from ufm.last_layer.read import inferred_decay
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.minimum.nearest_minimiser import nearest_minimiser
from ufm.model.evaluation import evaluated
from ufm.model.objective import data_loss, gradient_at, matmul
from ufm.model.params import Params, dot, norm
from ufm.model.problem import Problem

_NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class ModelView:
    """A last layer as a point of one instance of the model. NaN where a number is undefined.

    `lam_h` from balance and `lam_h_fit` from the features (see the module). `dual_ratio` is
    ‖G‖₂/μ, 1 at a minimum; `threshold_ratio` is μ over the collapse threshold; from 1 on the
    minimum is the origin. Stationarity: `residual_w` = ‖GHᵀ+λ_W W‖/(λ_W‖W‖), `residual_h` =
    ‖WᵀG+λ_H H‖/(λ_H‖H‖), `residual_b` = ‖G1+λ_b b‖.

    `value` is f at the point, `lower_bound` a lower bound on f everywhere, `minimum_value` f* if
    known; `relative_gap` = (value − lower_bound)/(f(0) − f*), `relative_excess` =
    (value − f*)/(f(0) − f*), and `verdict` that of `certify`.

    With (W*, H*, b*) the nearest minimiser (joint Procrustes), `distance` is ‖(W,H,b)−(W*,H*,b*)‖
    over ‖(W*,H*)‖ in balanced coordinates; `classifier_distance` = ‖W−W*‖/‖W*‖ and
    `feature_distance` = ‖H−H*‖/‖H*‖ are its parts, and `bias_distance` = ‖b−b*‖ is in units of
    logits. `shape_distance` is the sine of the angle between (W,H) and (W*,H*), the relative
    distance after the best common rescaling. If it is small and `distance` is large, the shape is
    right, but the size, which grows with the margins, is not final. `minimum_nc2` is NC2 of the
    minimiser itself: 0 for a simplex ETF, and not 0 for MSE with a decayed bias, whose minimiser is
    another frame.
    """

    lam_w: float
    lam_b: float
    lam_h: float
    lam_h_fit: float
    mu: float
    dual_ratio: float
    threshold_ratio: float
    residual_w: float
    residual_h: float
    residual_b: float
    value: float
    lower_bound: float
    minimum_value: float
    relative_gap: float
    relative_excess: float
    verdict: Verdict
    distance: float
    shape_distance: float
    minimum_nc2: float
    classifier_distance: float
    feature_distance: float
    bias_distance: float


def _trained_decays(problem: Problem) -> dict[str, Any]:
    lam_b = _NAN if problem.lam_b is None else float(problem.lam_b)
    return {"lam_w": float(problem.lam_w), "lam_b": lam_b}


def undefined(problem: Problem) -> ModelView:
    """A view with the decays only; all other numbers are NaN."""
    numbers: dict[str, Any] = {field.name: _NAN for field in dataclasses.fields(ModelView)}
    return ModelView(**numbers | _trained_decays(problem) | {"verdict": Verdict.UNDECIDED})


@always_compiled()
def view(problem: Problem, params: Params) -> ModelView:
    """Measure a point of `problem`, in which only λ_H is missing."""
    W, H = np.asarray(params.W), np.asarray(params.H)
    if not (np.any(W) and np.any(H)):
        return undefined(problem)
    lam_h = inferred_decay(float(problem.lam_w), W, H)
    problem = dataclasses.replace(problem, lam_h=lam_h)
    certificate = certify(problem, params)
    minimum = global_minimum(problem)
    fit, *residuals = (float(x) for x in jax.device_get(_stationarity(problem, params)))
    mu = float(certificate.threshold)
    return ModelView(
        **_trained_decays(problem),
        lam_h=lam_h,
        lam_h_fit=fit,
        mu=mu,
        dual_ratio=_ratio(float(certificate.dual_norm), mu),
        threshold_ratio=_threshold_ratio(problem, mu),
        **dict(zip(("residual_w", "residual_h", "residual_b"), residuals, strict=True)),
        **_heights(problem, certificate, minimum),
        **_distances(problem, params, minimum),
    )


@jax.jit
def _stationarity(problem: Problem, params: Params) -> tuple[Float[Array, ""], ...]:
    """λ_H from the features, and the three residuals of `ModelView`."""
    W, H = params.W, params.H
    _, _, gamma, G = evaluated(problem, params)
    gradient = gradient_at(problem, params, gamma)
    lam_w, lam_h = (jnp.asarray(x, W.dtype) for x in (problem.lam_w, problem.lam_h))
    size_w, size_h = jnp.linalg.norm(W), jnp.linalg.norm(H)
    fit = -jnp.sum(matmul(G, H.T) * W) / size_h**2
    bias = jnp.asarray(jnp.nan, W.dtype) if gradient.b is None else jnp.linalg.norm(gradient.b)
    sizes = jnp.stack([lam_w * size_w, lam_h * size_h])
    residuals = jnp.stack([jnp.linalg.norm(gradient.W), jnp.linalg.norm(gradient.H)])
    # Without decay, nothing balances the data term.
    w, h = jnp.where(sizes > 0, residuals / jnp.where(sizes > 0, sizes, 1.0), jnp.nan)
    return fit, w, h, bias


def _threshold_ratio(problem: Problem, mu: float) -> float:
    if not supported(problem):
        return _NAN
    return mu / float(collapse_threshold(problem).mu)


def _heights(problem: Problem, certificate: Certificate, minimum: GlobalMinimum) -> dict[str, Any]:
    """f at the point, its lower bound, and f* if known."""
    value, lower = float(certificate.value), float(certificate.lower_bound)
    star = float(minimum.value) if minimum.is_exact else _NAN
    shape = (problem.num_classes, problem.num_columns)
    depth = float(data_loss(problem, jnp.zeros(shape))) - star
    return {
        "value": value,
        "lower_bound": lower,
        "minimum_value": star,
        "relative_gap": _ratio(value - lower, depth),
        "relative_excess": _ratio(value - star, depth),
        "verdict": Verdict(int(certificate.verdict)),
    }


def _distances(problem: Problem, params: Params, minimum: GlobalMinimum) -> dict[str, Any]:
    """The distances of `ModelView`; NaN if no minimiser is known or it is the origin."""
    names = (
        *("distance", "shape_distance", "minimum_nc2"),
        *("classifier_distance", "feature_distance"),
    )
    if not minimum.is_exact:
        return dict.fromkeys((*names, "bias_distance"), _NAN)
    mu = float(problem.mu())
    stretch = (float(problem.lam_w) / float(problem.lam_h)) ** 0.25
    balanced = dataclasses.replace(problem, lam_w=mu, lam_h=mu)
    point = Params(stretch * params.W, params.H / stretch, params.b)
    # f* is the same: only the factors of Z* are rescaled.
    nearest = nearest_minimiser(balanced, point, dataclasses.replace(minimum, problem=balanced))
    assert nearest is not None
    target, classifier = nearest.params, np.asarray(nearest.params.W)
    layer, frame = (Params(x.W, x.H, None) for x in (point, target))
    apart = jax.tree.map(jnp.subtract, point, target)
    found = {
        "distance": nearest.relative,
        "shape_distance": _sine(layer, frame),
        "minimum_nc2": distance_from_frame(classifier @ classifier.T),
        "classifier_distance": jnp.linalg.norm(apart.W) / jnp.linalg.norm(target.W),
        "feature_distance": jnp.linalg.norm(apart.H) / jnp.linalg.norm(target.H),
        "bias_distance": _NAN if apart.b is None else jnp.linalg.norm(apart.b),
    }
    return {
        name: float(x) if minimum.rank or name == "bias_distance" else _NAN
        for name, x in found.items()
    }


def _sine(x: Params, y: Params) -> Float[Array, ""]:
    """The sine of the angle between points, from a difference: 1 − cos² loses small angles."""
    size_x, size_y = norm(x), norm(y)
    cosine = dot(x, y) / (size_x * size_y)
    return norm(jax.tree.map(lambda a, b: a / size_x - cosine * b / size_y, x, y))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else _NAN
