r"""Classify a point: global minimum, strict saddle, local minimum, or undecided.

    gap = f(point) − (lower bound on f*)        at any point, critical or not; allows for rounding

GLOBAL_MINIMUM means gap ≤ tol and no descent direction found. The lower bound comes from duality
(`ufm.certificates.dual_bounds`) for convex losses and for others with a conjugate, and from the
scalar bound of `ufm.collapse.symmetric_solution` for contrastive losses with balanced classes. The
tolerance is relative to the depth

    D = max(f(0) − f(point), s/1000),    s = min(f(0) − inf L, |f(0)|)

and never raised to allow for rounding: if rounding alone keeps the gap open, the verdict is
UNDECIDED.

STRICT_SADDLE and LOCAL_MINIMUM rest on curvature (`ufm.certificates.second_order`), and are
numerical statements about an exact critical point nearby. All other points are UNDECIDED, with the
reason.

    >>> certificate = certify(problem, solution.params)
    >>> certificate.verdict, float(certificate.gap) < 1e-9
    (<Verdict.GLOBAL_MINIMUM: 0>, True)
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ufm._support.pytree import pytree, require
from ufm._support.quick_jit import quick_jit
from ufm._support.shown import Shown
from ufm.certificates.decision import Scalars, judged, known_scalars, proven_bound
from ufm.certificates.dual_bounds import region_lower_bound
from ufm.certificates.dual_state import dual_state
from ufm.certificates.second_order import escape_direction, is_descent, is_local_minimum
from ufm.certificates.verdicts import REASONS as REASONS
from ufm.certificates.verdicts import Reason as Reason
from ufm.certificates.verdicts import Verdict as Verdict
from ufm.losses import Refutation
from ufm.model.objective import per_column
from ufm.model.params import finite_or_zero
from ufm.model.problem import Params, Problem, check_shapes, norm
from ufm.model.rounding import gradient_noise
from ufm.model.variant import by_variant

Scalar = Float[Array, ""]

#: Hessians of a loss declared convex are tested at as many samples as take about this number of
#: operations, and at least at the second number of samples.
_HESSIAN_WORK, _FEWEST_HESSIANS = 2e8, 16


@pytree()
class Certificate(Shown):
    """A verdict on a point, with the numbers on which it rests.

    `gap = value − lower_bound` bounds f − f* and includes `rounding`, a bound on its own error.
    `tol` is the largest gap of a global minimum, an absolute number. `region_gap` bounds f minus
    its minimum over the convex region of the focal loss. `verdict` is a `Verdict` and `reason` a
    `Reason`, or their integer codes in a batch. `escape` is an `Escape`, or None if no direction of
    descent was sought (`ufm.last_layer.streaming`). `witness` is the column of H at which a custom
    loss contradicts its declarations, and the contradiction; None for other losses.
    """

    verdict: Any
    reason: Any
    value: Float[Array, "*batch"]
    grad_norm: Float[Array, "*batch"]
    dual_norm: Float[Array, "*batch"]
    threshold: Float[Array, "*batch"]
    lower_bound: Float[Array, "*batch"]
    gap: Float[Array, "*batch"]
    region_gap: Float[Array, "*batch"]
    rounding: Float[Array, "*batch"]
    tol: Float[Array, "*batch"]
    depth: Float[Array, "*batch"]
    critical_tol: Float[Array, "*batch"]
    escape: Any
    witness: tuple[Int[Array, "*batch"], Refutation] | None

    _printed = ("verdict", "reason", "value", "gap", "tol", "lower_bound", "grad_norm")
    #: How the ratio of `dual_norm` to `threshold` is written.
    _ratio: ClassVar[str] = "‖G‖₂/μ"

    @property
    def dtype(self) -> Any:
        """The precision of the computation."""
        return self.value.dtype

    def explain(self) -> str:
        """Explain the verdict on a single point in one or two sentences."""
        verdict, reason = Verdict(int(self.verdict)), Reason(int(self.reason))
        text = f"{verdict.name} ({self.dtype}): {REASONS[reason]}. "
        text += (
            f"f = {float(self.value):.10g}, gap {float(self.gap):.2e} (tol {float(self.tol):.1e})"
        )
        text += f", ‖∇f‖ = {float(self.grad_norm):.1e}"
        text += self._of_duality()
        if verdict is Verdict.STRICT_SADDLE:
            text += f", curvature {float(self.escape.curvature):.3e} along the escape direction"
        if reason is Reason.TOLERANCE_BELOW_ROUNDING:
            needed = 6.0 * float(self.rounding / self.depth)
            text += f". Rounding {float(self.rounding):.1e}: "
            text += f"tol={needed:.1g} resolves" if needed < 0.5 else "no tol below 1 resolves"
            text += f" the gap in {self.dtype}"
        if reason is Reason.DECLARATION_REFUTED and self.witness is not None:
            column, found = self.witness
            text += f". At column {int(column)} of H the loss {found.explain()}"
        return text + "."

    def _of_duality(self) -> str:
        return f", {self._ratio} = {float(self.dual_norm / self.threshold):.10g}"


@by_variant
def certify(problem: Problem, params: Params, tol: float | Scalar | None = None) -> Certificate:
    """Classify a point, with a proof if it is a global minimum.

    Maps over batches of points with `jax.vmap`. If a single point of moderate size would be
    undecided, the signs of all curvatures are counted (`ufm.inertia`), which can make it a
    LOCAL_MINIMUM. For a batch this is omitted.

    Args:
        problem: The problem.
        params: Any point, critical or not: W (K, d), H (d, N), samples ordered by class, b (K,) or
            None.
        tol: The largest gap of a global minimum, relative to f(0) − f, or to (f(0) − inf L)/1000 if
            that is larger (beyond the collapse threshold). None is 1e-6, but at most a gap of
            1e-3 (f − inf L), which is smaller at tiny decays. If the tolerance is below the
            rounding error, the verdict is UNDECIDED, and `explain()` names a larger one that can be
            decided. Float32 needs a larger tolerance.

    Returns:
        The verdict, its reason, and the numbers on which it rests.

    Raises:
        ValueError: `tol` is outside [0, 1), or the shapes do not fit the problem.
        TypeError: The arrays are not all float32 or all float64.
    """
    check_shapes(problem, params)
    dtype = params.W.dtype
    found = _certify(problem, params, relative_tolerance(tol, dtype), known_scalars(problem, dtype))
    if isinstance(found.verdict, Tracer):
        return found
    verdict, reason = Verdict(int(found.verdict)), Reason(int(found.reason))
    if (
        verdict is Verdict.UNDECIDED
        and reason in _OPEN
        and is_local_minimum(problem, params, float(found.grad_norm))
    ):
        verdict = Verdict.LOCAL_MINIMUM
        # Without a bound nothing distinguishes a global minimum from a counterexample.
        no_spurious = reason is Reason.GAP_OPEN and _no_spurious_minima(problem)
        reason = Reason.LOCAL_AGAINST_THEORY if no_spurious else Reason.ALL_CURVATURES_POSITIVE
    return dataclasses.replace(found, verdict=verdict, reason=reason)


def check_tolerance(tol: float | Scalar | None) -> None:
    """Raise `ValueError` for an invalid tolerance of the gap."""
    if tol is not None:
        require("tol", tol, lambda x: (x >= 0) & (x < 1), "in [0, 1), relative to f(0) − f*")


def relative_tolerance(tol: float | Scalar | None, dtype: Any) -> Scalar:
    """The tolerance as an array, NaN for the default. Raises `ValueError` if it is invalid."""
    check_tolerance(tol)
    # From the host: JAX would compile a conversion of NaN.
    return jax.device_put(np.asarray(np.nan, dtype)) if tol is None else jnp.asarray(tol, dtype)


#: Reasons for which counting the signs of all curvatures can still give a verdict.
_OPEN = (Reason.GAP_OPEN, Reason.CONVEXITY_UNKNOWN, Reason.BIAS_UNBOUNDED)


def _no_spurious_minima(problem: Problem) -> bool:
    """Whether a theorem excludes local minima that are not global."""
    loss = problem.loss
    free_bias = problem.lam_b is not None and float(problem.lam_b) == 0
    # The largest rank of the logits of a critical point, without the bias.
    rows = problem.num_outputs - loss.shift_invariant
    columns = problem.num_classes - (loss.quadratic and free_bias)
    return bool(loss.is_convex()) and problem.dim >= min(rows, columns)


@quick_jit
def _certify(
    problem: Problem, params: Params, relative: Scalar, scalars: Scalars | None = None
) -> Certificate:
    margin, threshold = scalars or (None, None)
    state = dual_state(problem, params)
    critical_tol = jnp.maximum(
        1e-6 * state.mu * jnp.maximum(norm(params), 1.0), 4 * gradient_noise(problem, state.at)
    )
    escape, image = escape_direction(problem, state)
    witness = declared_witness(problem, state.at.V)
    found = judged(
        problem,
        state.value,
        state.value_rounding,
        proven_bound(problem, problem, state, margin),
        region_lower_bound(problem, state, threshold=threshold),
        relative,
        grad_norm=state.grad_norm,
        critical_tol=critical_tol,
        decayed=state.mu > 0,
        descends=is_descent(problem, state, escape, image),
        refuted=is_refuted(witness),
    )
    return Certificate(
        **found, dual_norm=state.dual_norm, threshold=state.mu, escape=escape, witness=witness
    )


def is_refuted(witness: tuple[Array, Refutation] | None) -> Array | bool:
    """Whether a loss contradicts its declarations."""
    return False if witness is None else witness[1].refuted


def declared_witness(problem: Problem, V: Float[Array, "K N"]) -> tuple[Array, Refutation] | None:
    """The column at which the loss contradicts its declarations; None for a loss without any."""
    loss, columns = problem.loss, problem.num_columns
    if not loss.declared:
        return None
    V = finite_or_zero(V)
    every = per_column(functools.partial(loss.refutation, curved=False), problem, V)
    affordable = max(_FEWEST_HESSIANS, int(_HESSIAN_WORK / problem.num_outputs**3))
    chosen = np.unique(np.linspace(0, columns - 1, min(columns, affordable)).astype(np.int32))
    some = jax.lax.map(
        lambda sample: loss.refutation(*sample), (V.T[chosen], jnp.asarray(problem.labels[chosen]))
    )
    found = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), some, every)
    worst = jnp.argmax(found.refuted)
    column = jnp.concatenate([jnp.asarray(chosen), jnp.arange(columns, dtype=jnp.int32)])[worst]
    return column, jax.tree.map(lambda x: x[worst], found)
