"""The certificate of a large layer.

The lower bound needs only the class averages of a dual point (`ufm.certificates.dual_bounds`). It
is one of the K-column problem of the class means, and holds whatever errors the averages have.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.certificates.certificate import Certificate
from ufm.certificates.decision import judged, proven_bound
from ufm.certificates.dual_bounds import region_lower_bound
from ufm.certificates.dual_state import DualState, dual_state
from ufm.certificates.verdicts import Reason, Verdict
from ufm.collapse.metrics import NCMetrics
from ufm.last_layer.streaming.deviations import Deviations
from ufm.last_layer.streaming.gap_sums import Streamed
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.last_layer.streaming.objective import gradient_of, size_of, value_of
from ufm.model.problem import Problem
from ufm.model.rounding import bounded_spectral_norm

Scalar = Float[Array, ""]


class Blocks(NamedTuple):
    """What a certificate on file has of a layer that is read in blocks.

    `dual` has the averages of N∇g(V) over classes as columns, and `metrics` are those of the
    features even where the layer has collapsed to the origin.
    """

    dual: Float[np.ndarray, "K K"]
    metrics: NCMetrics


def certificate_of(
    layer: LargeLayer, found: Streamed, apart: Deviations, tol: float | None
) -> Certificate:
    """Certify the point as far as the sums allow: no direction of descent is sought."""
    sizes, mu = layer.moments.sizes, float(layer.problem.mu())
    total = float(sizes.sum())
    G = apart.mean_gradients * (np.sqrt(sizes) / total)
    value, rounding = value_of(layer, found)
    grad_norm, noise = gradient_of(layer, found, apart, G)
    critical_tol = max(_critical_floor(layer), 4.0 * noise)
    small, _ = layer.columns()
    relative = np.nan if tol is None else tol
    numbers = (value, rounding, grad_norm, critical_tol, found.surprise, relative)
    fields = _decided(
        layer.problem, small, _state(layer, G, value, rounding), *map(jnp.asarray, numbers)
    )
    verdict, reason = Verdict(int(fields["verdict"])), Reason(int(fields["reason"]))
    if reason is Reason.GAP_OPEN:
        reason = Reason.DESCENT_NOT_SOUGHT
    gram = G @ G.T + apart.gradients_gradients / total**2
    return Certificate(
        **fields | {"verdict": verdict, "reason": reason},
        dual_norm=jnp.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[-1], 0.0))),
        threshold=jnp.asarray(mu),
        escape=None,
        witness=None,
    )


def is_hidden(layer: LargeLayer, certificate: Certificate) -> bool:
    """Whether a smaller rounding error could change the verdict."""
    undecided = certificate.verdict is Verdict.UNDECIDED
    if undecided and certificate.critical_tol > _critical_floor(layer):
        return True
    if certificate.verdict in (Verdict.GLOBAL_MINIMUM, Verdict.MINIMUM_ON_CONVEX_REGION):
        return False
    gap = min(float(certificate.gap), float(certificate.region_gap))
    return gap - float(certificate.rounding) <= float(certificate.tol)


def _critical_floor(layer: LargeLayer) -> float:
    """The tolerance of the gradient, but for rounding."""
    return 1e-6 * float(layer.problem.mu()) * max(size_of(layer), 1.0)


def _state(
    layer: LargeLayer, G: Float[np.ndarray, "K K"], value: float, rounding: float
) -> DualState:
    """The dual of the K-column problem: the averages `G`, or that of the class means.

    A bound without a conjugate needs the dual of a point, so that it is taken at the class means.
    """
    small, means = layer.columns()
    state = dual_state(small, means)
    if not small.loss.has_conjugate:
        return state
    averages = jnp.asarray(G)
    sigma, bound, _ = bounded_spectral_norm(averages)
    gamma = averages * jnp.sqrt(small.samples(averages.dtype))[None, :]
    return state._replace(
        at=state.at._replace(gamma=gamma, G=averages),
        value=jnp.asarray(value),
        value_rounding=jnp.asarray(rounding),
        dual_norm=sigma,
        dual_norm_bound=bound,
    )


# Measured at K = 100: compiled it takes three quarters of the time, and a second to compile.
@functools.partial(quick_jit, host_work=10_000_000)
def _decided(
    problem: Problem,
    small: Problem,
    state: DualState,
    value: Scalar,
    rounding: Scalar,
    grad_norm: Scalar,
    critical_tol: Scalar,
    surprise: Scalar,
    relative: Scalar,
) -> dict[str, Any]:
    """The fields of the certificate that concern the gap, the verdict and the reason."""
    return judged(
        problem,
        value,
        rounding,
        proven_bound(problem, small, state),
        region_lower_bound(small, state, surprise),
        relative,
        grad_norm=grad_norm,
        critical_tol=critical_tol,
        decayed=state.mu > 0,
        descends=jnp.asarray(False),
        columns=small,
    )
