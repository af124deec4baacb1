r"""The one-dimensional side of a balanced problem: what the symmetric minimum is, in scalars.

With K balanced classes of n samples, the candidates for a global minimum are

    Z = (ρ P + (τ/K) 11ᵀ) ⊗ 1_nᵀ,   b = b₀ 1,   P = I − 11ᵀ/K,

and on them f is a function of three scalars. For shift-invariant losses with the contrastive
property of [Z22] (CE, LS, FL) τ = b₀ = 0 and, with φ(s) the loss at margin s = z_k − z_j for all
j ≠ k, the best symmetric value is

    min_{s≥0} φ(s) + c s,   c = μ √n (K−1),   μ = √(λ_W λ_H),   ρ* = argmin.

Without a bias it is the global minimum, convex loss or not: ‖Z‖_* ≥ √n (K−1) mean_i |s_i| for the
mean margins s_i, and L ≥ φ(mean margin). With one see `margin_lower_bound`. That ρ* is unique for
every c, the other property of [Z22], holds for CE and LS, but for FL only where 1/K ≥ p*(γ)
(K ≤ 23, 17, 17 at γ = 1, 2, 3): beyond, the origin and a frame tie where ρ* jumps.

See `ufm.collapse.margin_loss` for φ, `ufm.collapse.squared_error` for MSE. All of it is NumPy on
the host, where nothing is compiled; within a transformation it is JAX.

    >>> large = Problem.balanced(loss=CrossEntropy(), num_classes=10, per_class=100, dim=16,
    ...                          lam_w=5e-4, lam_h=5e-4, lam_b=None)
    >>> round(float(symmetric_minimum(large).rho), 6), round(float(collapse_threshold(large).mu), 6)
    (5.252273, 0.01)
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from ufm._support.namespace import namespace, settled
from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.collapse.margin_loss import MarginLoss, margin_bound
from ufm.collapse.squared_error import SquaredError
from ufm.losses import MSE, Focal, SoftmaxLoss
from ufm.model.problem import Problem

_Number = Float[np.ndarray | Array, "*batch"]


@pytree()
class SymmetricMinimum(Shown):
    """ρ, τ, b₀ and the value of f at the best symmetric point (see the module)."""

    rho: _Number
    tau: _Number
    bias_level: _Number
    value: _Number

    def rank(self, num_classes: int) -> int:
        """The rank of the point; on the host."""
        return (num_classes - 1) * bool(self.rho > 0) + bool(self.tau > 0)


@pytree()
class CollapseThreshold(Shown):
    """The decay √(λ_W λ_H) at and above which ρ* = 0, and whether ρ* jumps there from a tie."""

    mu: _Number
    jumps: Any


def supported(problem: Problem) -> bool:
    """Balanced classes and a loss whose symmetric minimum is known."""
    loss = problem.loss
    return problem.per_class is not None and isinstance(loss, SoftmaxLoss | MSE)


def _balanced_size(problem: Problem) -> int:
    if problem.per_class is None or not supported(problem):
        raise ValueError(
            "the symmetric minimum is known for balanced, unweighted classes and the losses "
            f"CE, LS, FL and MSE; got {problem.loss.label()} with class counts "
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
    return _at_margin(phi, slope, phi.argmin(slope, 0.0 * slope))


def _at_margin(phi: MarginLoss, slope: Any, rho: Any) -> SymmetricMinimum:
    zero = 0.0 * rho
    return SymmetricMinimum(*map(_array, (rho, zero, zero, phi.value(rho) + slope * rho)))


def _rate(problem: Problem) -> Any:
    """μ√n: all that n, λ_W and λ_H are to the scalars."""
    problem, root = settled(problem), _balanced_size(problem) ** 0.5
    return problem.mu(problem.lam_w.dtype) * root  # pyright: ignore[reportAttributeAccessIssue]  # settled: an array


def _margin_loss(problem: Problem) -> MarginLoss:
    assert isinstance(problem.loss, SoftmaxLoss)
    return MarginLoss(problem.loss, problem.num_classes)


def _squared(problem: Problem, rate: Any) -> SquaredError:
    assert isinstance(problem.loss, MSE)
    return SquaredError(problem.loss, problem.num_classes, rate, problem.lam_b)


def _array(x: Any) -> Any:
    return namespace(x).asarray(x)


def symmetric_frame(problem: Problem) -> SymmetricMinimum:
    """The symmetric critical point with ρ > 0 that is a minimum in ρ, global or not; else NaN.

    The global minimum below the collapse threshold. The focal loss keeps it beyond, up to the decay
    −φ'(s_c)/(√n (K−1)): φ is nowhere steeper. Raises as `symmetric_minimum`.
    """
    rate, problem, low = _rate(problem), settled(problem), 0.0
    if isinstance(problem.loss, Focal):
        phi, slope = _margin_loss(problem), rate * (problem.num_classes - 1)
        low = namespace(slope).maximum(phi.inflection(slope), 0.0)
        found = _at_margin(phi, slope, phi.stationary(slope, low))
    else:
        found = symmetric_minimum(problem)
    there, xp = found.rho > low, namespace(found.rho)
    return jax.tree.map(lambda x: xp.where(there, x, xp.nan), found)


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
    slope, jumps = -phi.slope(phi.tie(zero)), phi.inflection(zero) > 0
    return CollapseThreshold(_array(slope / ((problem.num_classes - 1) * root)), _array(jumps))


def margin_lower_bound(problem: Problem) -> Float[np.ndarray | Array, "*batch"]:
    """A number that f never falls below but for rounding, for balanced CE, LS and FL, and every d.

    Without bias, and with one for c = μ √n (K−1) ≤ 1 and beyond the collapse, it is the symmetric
    minimum: see `margin_bound`. Raises `ValueError` for other losses.
    """
    rate = _rate(problem)
    if isinstance(problem.loss, MSE):
        raise ValueError(f"the margin bound needs CE, LS or FL, got {problem.loss.label()}")
    problem = settled(problem)
    c = rate * (problem.num_classes - 1)
    return _array(margin_bound(_margin_loss(problem), c, problem.lam_b))


def proven_lower_bound(problem: Problem) -> float:
    """A number that f never falls below, its rounding included; on the host.

    The symmetric minimum to rounding, but for the focal loss with a bias at c > 1: see
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

    Under the focal loss where 1/K < p*(γ), at the decay at which the minimiser jumps.
    """
    if not isinstance(problem.loss, Focal):
        return False
    phi, zero = _margin_loss(settled(problem)), np.float64(0.0)
    origin, frame = float(phi.value(zero)), float(symmetric_frame(problem).value)
    near = 64 * float(np.finfo(float).eps) * (1.0 + origin)
    return bool(phi.inflection(zero) > 0) and abs(frame - origin) <= near
