r"""The one-dimensional side of a balanced problem: what the symmetric minimum is, in scalars.

With K balanced classes of n samples, the candidates for a global minimum are

    Z = (ρ P + (τ/K) 11ᵀ) ⊗ 1_nᵀ,   b = b₀ 1,   P = I − 11ᵀ/K,

and on them f is a function of three scalars. For shift-invariant losses with the contrastive
property of [Z22] (CE, LS, FL, bounded losses, hinges, …) τ = b₀ = 0 and, with φ(s) the loss at
margin s = z_k − z_j for all j ≠ k, the best symmetric value is

    min_{s≥0} φ(s) + c s,   c = μ √n (K−1),   μ = √(λ_W λ_H),   ρ* = argmin.

Without a bias it is the global minimum, convex loss or not: ‖Z‖_* ≥ √n (K−1) mean_i |s_i| for the
mean margins s_i, and L ≥ φ(mean margin). With one see `margin_lower_bound`. That ρ* is unique for
every c, the other property of [Z22], holds where φ is convex for s ≥ 0 (CE, LS; FL only where
1/K ≥ p*(γ), K ≤ 23, 17, 17 at γ = 1, 2, 3): else the origin and a frame tie where ρ* jumps.

See `ufm.collapse.margin_loss` for φ, `ufm.collapse.squared_error` for MSE. All of it is NumPy on
the host, where nothing is compiled; within a transformation it is JAX.

    >>> large = Problem.balanced(loss=CrossEntropy(), num_classes=10, per_class=100, dim=16,
    ...                          lam_w=5e-4, lam_h=5e-4, lam_b=None)
    >>> round(float(symmetric_minimum(large).rho), 6), round(float(collapse_threshold(large).mu), 6)
    (5.252273, 0.01)
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ufm._support.namespace import namespace, settled
from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.collapse.margin_loss import MarginLoss, margin_bound
from ufm.collapse.squared_error import SquaredError
from ufm.losses import MSE
from ufm.model.problem import Problem

#: A profile that is straight from the margin 0 to this one is that of a hinge.
_STRAIGHT = 1e-3

_Number = Float[np.ndarray | Array, "*batch"]


@pytree()
class SymmetricMinimum(Shown):
    """ρ, τ, b₀ and the value of f at the best symmetric point (see the module)."""

    rho: _Number
    tau: _Number
    bias_level: _Number
    value: _Number


@pytree()
class CollapseThreshold(Shown):
    """The decay √(λ_W λ_H) at and above which ρ* = 0, and whether ρ* jumps there from a tie."""

    mu: _Number
    jumps: Any


def supported(problem: Problem) -> bool:
    """Balanced classes and a loss whose symmetric minimum is known."""
    loss = problem.loss
    return problem.per_class is not None and (loss.contrastive or isinstance(loss, MSE))


def _balanced_size(problem: Problem) -> int:
    if problem.per_class is None or not supported(problem):
        raise ValueError(
            "the symmetric minimum is known for balanced, unweighted classes and MSE or the "
            f"contrastive losses of the library; got {problem.loss.label()} with class counts "
            f"{problem.class_counts}. Use global_minimum for other problems"
        )
    return problem.per_class


def symmetric_minimum(problem: Problem) -> SymmetricMinimum:
    """The best point of a balanced problem that is symmetric in the classes, in closed form.

    Args:
        problem: A balanced problem with a loss of the library.

    Returns:
        Its value and scalars: Z = (ρP + (τ/K) 11ᵀ) ⊗ 1ᵀ, b = b₀ 1.

    Raises:
        ValueError: The problem is imbalanced or weighted, or its loss is a custom one.
    """
    rate, problem = _rate(problem), settled(problem)
    if isinstance(problem.loss, MSE):
        return SymmetricMinimum(*map(_array, _squared(problem, rate).minimum()))
    phi, slope = _margin_loss(problem), rate * (problem.num_classes - 1)
    rho = phi.argmin(slope, 0.0 * slope)
    return SymmetricMinimum(*map(_array, (rho, 0.0 * rho, 0.0 * rho, phi.value(rho) + slope * rho)))


def _rate(problem: Problem) -> Any:
    """μ√n: all that n, λ_W and λ_H are to the scalars."""
    problem, root = settled(problem), _balanced_size(problem) ** 0.5
    return problem.mu(problem.lam_w.dtype) * root  # pyright: ignore[reportAttributeAccessIssue]  # settled: an array


def _margin_loss(problem: Problem) -> MarginLoss:
    assert problem.loss.contrastive
    return MarginLoss(problem.loss, problem.num_classes)


def _squared(problem: Problem, rate: Any) -> SquaredError:
    assert isinstance(problem.loss, MSE)
    return SquaredError(problem.loss, problem.num_classes, rate, problem.lam_b)


def _array(x: Any) -> Any:
    return namespace(x).asarray(x)


def symmetric_frame(problem: Problem) -> SymmetricMinimum:
    """The symmetric critical point with ρ > 0 that is a minimum in ρ, global or not; else NaN.

    The global minimum below the collapse threshold. Where φ is concave at 0 it stays beyond, up to
    the decay −φ'(s_c)/(√n (K−1)): φ is nowhere steeper. Raises as `symmetric_minimum`.
    """
    found, problem, low = symmetric_minimum(problem), settled(problem), 0.0
    rho, value = found.rho, found.value
    if problem.loss.contrastive and not problem.loss.is_convex():
        phi, slope = _margin_loss(problem), _rate(problem) * (problem.num_classes - 1)
        low = namespace(slope).maximum(phi.inflection(slope), 0.0)
        rho = phi.stationary(slope, low)
        value = phi.value(rho) + slope * rho
    there, xp = rho > low, namespace(rho)
    numbers = (rho, found.tau, found.bias_level, value)
    return SymmetricMinimum(*(xp.where(there, x, xp.nan) for x in numbers))


def collapse_threshold(problem: Problem) -> CollapseThreshold:
    """The decay beyond which the origin is the global minimum, as a value of μ = √(λ_W λ_H).

    Args:
        problem: A balanced problem; its decays are not used.

    Returns:
        `mu`, in units of the loss, and whether the minimiser `jumps` there.

    Raises:
        ValueError: The problem is imbalanced or weighted, or its loss has no known threshold.
    """
    root, problem = _balanced_size(problem) ** 0.5, settled(problem)
    if isinstance(problem.loss, MSE):
        return CollapseThreshold(
            _array(_squared(problem, _rate(problem)).threshold() / root), np.asarray(False)
        )
    phi, zero = _margin_loss(problem), 0.0 * _rate(problem)
    slope = -phi.slope(phi.tie(zero))
    # From a concave start, or along a straight one, as of a plain hinge.
    jumps = (phi.inflection(zero) > 0) | (phi.slope(zero + _STRAIGHT) <= phi.slope(zero))
    return CollapseThreshold(_array(slope / ((problem.num_classes - 1) * root)), _array(jumps))


def margin_lower_bound(problem: Problem) -> Float[np.ndarray | Array, "*batch"]:
    """A number that f never falls below but for rounding: balanced, contrastive losses, every d.

    Without bias, and with one for c = μ √n (K−1) ≤ −φ'(−∞) (1 for CE, LS, FL) and, φ convex for
    s ≥ 0, beyond the collapse, it is the symmetric minimum: see `margin_bound`. Raises
    `ValueError` for other losses.
    """
    rate = _rate(problem)
    if isinstance(problem.loss, MSE):
        raise ValueError(f"the margin bound needs a contrastive loss, got {problem.loss.label()}")
    problem = settled(problem)
    c = rate * (problem.num_classes - 1)
    return _array(margin_bound(_margin_loss(problem), c, problem.lam_b))


def proven_lower_bound(problem: Problem) -> float:
    """A number that f never falls below, its rounding included; on the host.

    The symmetric minimum to rounding, but with a bias at large c where φ is not convex: see
    `margin_lower_bound`.
    """
    if isinstance(problem.loss, MSE):
        return _squared(settled(problem), _rate(problem)).lower_bound()
    bound = float(margin_lower_bound(problem))
    # No term of the bound exceeds φ(0), and each is known to 1 + γ of its roundings.
    size = abs(bound) + float(_margin_loss(settled(problem)).value(np.float64(0.0)))
    steep = float(problem.loss.smoothness()[0])
    return bound - 64 * float(np.finfo(float).eps) * steep * size


def is_tied(problem: Problem) -> bool:
    """Do the origin and a frame beyond the bend of φ have one value, up to rounding?

    Where φ is concave at 0, at the decay at which the minimiser jumps.
    """
    if not problem.loss.contrastive or problem.loss.is_convex():
        return False
    phi, zero = _margin_loss(settled(problem)), np.float64(0.0)
    origin, frame = float(phi.value(zero)), float(symmetric_frame(problem).value)
    near = 64 * float(np.finfo(float).eps) * (1.0 + origin)
    return bool(phi.inflection(zero) > 0) and abs(frame - origin) <= near
