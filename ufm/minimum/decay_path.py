r"""Follow the global minimiser along a list of decays: a tangent step in Z, then Newton's method.

With x = (W, Ĥ, b) of the K-column problem, the decays in a fixed ratio and t = log μ,

    dx/dt = −∇²f(x)⁺ (λ_W W, λ_H Ĥ, λ_b b),    dZ/dt = dW/dt Ĥ + W dĤ/dt.

The step from t to t + δ is taken in the logits, Z + δ dZ/dt and b + δ db/dt, which are close to
straight lines in t (near zero decay the margins grow like −t), while W and Ĥ are not; Z is then
factored with least decay. Newton's method polishes, and every point is certified. If a point is no
global minimum, as where classes part below their threshold (W of the merged point has no direction
in which to grow), the minimum is computed anew.

    >>> path = decay_path(problem, np.geomspace(1e-2, 1e-6, 3))
    >>> path.exact, bool(np.all(path.gaps < 1e-9))
    (array([ True,  True,  True]), True)
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.certificates.certificate import Verdict, certify
from ufm.hessian import dense_hessian
from ufm.minimum.global_minimum import global_minimum
from ufm.minimum.size_geometry import SizeGeometry, geometry_of, least_factors
from ufm.model.class_means import class_sizes, reduced_problem
from ufm.model.objective import gradient_at, value_and_gradient
from ufm.model.params import Params, norm
from ufm.model.problem import Problem
from ufm.model.variant import by_variant
from ufm.solvers import default_tol

#: Added to ∇²f, relative to its norm, so that rotations and a free shift, along which it is zero
#: and the right-hand side has no part, do no harm.
_RIDGE = 1e-10
#: Newton steps from a start that is near; quadratic convergence takes a handful.
_MOST_STEPS = 30
#: The largest K of class labels: ∇²f is a matrix of 2K² + K rows.
LARGEST = 40
#: A point is as accurate as `global_minimum` makes it.
_TOL = 1e-3


@pytree()
class DecayPath(Shown):
    """The minimisers at decays μ = √(λ_W λ_H), in the given order.

    `values` are f, `gaps` bounds on f − f*, `exact` whether the certificate proves a global
    minimum; `logits` (T, K, K) are Z̄, a column W h̄_k for each class, `biases` (T, K) or None.
    `steps` are Newton steps. `fresh` marks points computed anew, among them the first; their steps
    are not counted, and are 0.
    """

    problem: Problem
    decays: Float[np.ndarray, " T"]
    values: Float[np.ndarray, " T"]
    gaps: Float[np.ndarray, " T"]
    exact: Any
    fresh: Any
    steps: Int[np.ndarray, " T"]
    logits: Float[np.ndarray, "T K m"]
    biases: Float[np.ndarray, "T K"] | None

    _printed = ("decays", "values", "gaps", "exact", "fresh", "steps", "logits")

    def geometry(self, i: int) -> SizeGeometry:
        """Norms and cosines of classifier and class means at the i-th decay."""
        return geometry_of(at_decay(self.problem, float(self.decays[i])), self.logits[i])


@by_variant
def decay_path(
    problem: Problem,
    decays: Sequence[float] | Float[np.ndarray, " T"],
    *,
    tangent: bool = True,
) -> DecayPath:
    """Compute the global minimiser at each of a list of decays, each from the one before.

    It is that in d ≥ rank Z*, which K is enough for, whatever the problem's own d.

    Args:
        problem: The problem, with a convex loss; its decays give the ratios λ_W : λ_H : λ_b.
        decays: μ = √(λ_W λ_H) at each point, each within a factor of some tens of the one before.
        tangent: Predict each point from the one before; otherwise start at that point itself.

    Returns:
        Values, gaps, logits, geometry and the Newton steps of each point.

    Raises:
        ValueError: A decay is not positive and finite, the problem's are zero or a batch, the loss
            is not convex, or ∇²f has more rows than for K = 40 classes.
    """
    mus = np.asarray(decays, float)
    if mus.ndim != 1 or not mus.size or not np.all((mus > 0) & np.isfinite(mus)):
        raise ValueError("decays must be a list of positive numbers, values of √(λ_W λ_H)")
    if np.ndim(problem.mu()) or not float(problem.mu()) > 0:
        raise ValueError("lam_w and lam_h must be positive numbers: the path keeps their ratio")
    if not problem.loss.is_convex():
        raise ValueError(f"a path is certified for convex losses, {problem.loss.label()} is not")
    rows, most = reduced_problem(problem).num_parameters, 2 * LARGEST**2 + LARGEST
    if rows > most:
        raise ValueError(
            f"a path takes at most {LARGEST} classes, got {problem.num_classes} with "
            f"{problem.num_outputs} outputs: the Hessian has {rows:,} rows, more than {most:,}"
        )
    problem = dataclasses.replace(problem, dim=max(problem.dim, problem.num_classes))
    points = [_anew(at_decay(problem, float(mus[0])))]
    for before, mu in zip(mus[:-1].tolist(), mus[1:].tolist(), strict=True):
        points.append(_next(problem, points[-1].params, before, mu, tangent))
    roots = np.sqrt(np.asarray(class_sizes(problem)))
    tables = [np.asarray(point.params.W) @ np.asarray(point.params.H) / roots for point in points]
    biases = [point.params.b for point in points]
    return DecayPath(
        problem,
        mus,
        np.array([point.value for point in points]),
        np.array([point.gap for point in points]),
        np.array([point.exact for point in points]),
        np.array([point.fresh for point in points]),
        np.array([point.steps for point in points]),
        np.stack(tables),
        None if biases[0] is None else np.stack([np.asarray(b) for b in biases]),
    )


def at_decay(problem: Problem, mu: float) -> Problem:
    """The problem at √(λ_W λ_H) = μ, all decays in the same ratio as before."""
    factor = mu / float(problem.mu())
    lam_b = None if problem.lam_b is None else factor * problem.lam_b
    return dataclasses.replace(
        problem, lam_w=factor * problem.lam_w, lam_h=factor * problem.lam_h, lam_b=lam_b
    )


@dataclasses.dataclass(frozen=True)
class _Point:
    """A point of the K-column problem, and what is known of it."""

    params: Params
    value: float
    gap: float
    exact: bool
    fresh: bool
    steps: int


def _next(problem: Problem, params: Params, before: float, mu: float, tangent: bool) -> _Point:
    there = at_decay(problem, mu)
    small, start = reduced_problem(there), params
    if tangent:
        start = _predicted(problem, params, before, mu)
    end, steps = _newton(small, start)
    certificate = certify(small, end)
    if certificate.verdict is not Verdict.GLOBAL_MINIMUM:
        return _anew(there)
    return _Point(end, float(certificate.value), float(certificate.gap), True, False, steps)


def _newton(small: Problem, params: Params) -> tuple[Params, int]:
    """Plain Newton steps, without the trust region of `solve`, which starts at ‖∇f‖.

    Near a minimum at a small decay a step is far longer than that. Where plain steps fail, as the
    certificate says, the point is computed anew.
    """
    tol = _TOL * float(default_tol(small, np.float64))
    for count in range(_MOST_STEPS):
        _, gradient = value_and_gradient(small, params)
        size = float(norm(gradient))
        if not size > tol:  # NaN included
            return params, count
        params = jax.tree.map(jnp.subtract, params, _solved(small, params, gradient))
    return params, _MOST_STEPS


def _predicted(problem: Problem, params: Params, before: float, mu: float) -> Params:
    """The tangent step in Z from one decay to the next, factored with least decay."""
    small = reduced_problem(at_decay(problem, before))
    W, H = np.asarray(params.W), np.asarray(params.H)
    nothing = jnp.zeros((small.num_outputs, small.num_columns))
    change = _solved(small, params, gradient_at(small, params, nothing))  # ∇ of the decays alone
    delta = np.log(before / mu)
    Z = W @ H + delta * (np.asarray(change.W) @ H + W @ np.asarray(change.H))
    b = None if params.b is None else params.b + delta * change.b
    W, H = least_factors(problem, Z / np.sqrt(np.asarray(class_sizes(problem))))
    return Params(jnp.asarray(W), jnp.asarray(H), b)


def _solved(small: Problem, params: Params, right: Params) -> Params:
    """∇²f⁺ times a vector without parts along rotations and a free shift."""
    leaves, shape = jax.tree.flatten(right)
    H = dense_hessian(small, params)
    H = H + _RIDGE * np.linalg.norm(H) * np.eye(len(H))
    found = np.linalg.solve(H, np.concatenate([np.asarray(x).ravel() for x in leaves]))
    parts = np.split(found, np.cumsum([x.size for x in leaves])[:-1])
    return shape.unflatten(
        [jnp.asarray(part.reshape(x.shape)) for part, x in zip(parts, leaves, strict=True)]
    )


def _anew(problem: Problem) -> _Point:
    """The global minimum without a point to start from."""
    found = global_minimum(problem)
    if not np.isfinite(found.value):
        raise ValueError(f"no minimum at μ = {float(problem.mu()):g}: {found.reason}")
    W, H = least_factors(problem, found.logits)
    b = None if found.bias is None else jnp.asarray(found.bias)
    params = Params(jnp.asarray(W), jnp.asarray(H), b)
    gap = found.value - found.lower_bound
    return _Point(params, found.value, gap, found.is_exact, True, 0)
