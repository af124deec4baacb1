r"""Gradient flow ẋ = −∇f, and the saddles at which it lingers.

Started near the origin the flow passes from saddle to saddle: it stays near one for a time that
grows with the logarithm of the distance at which it came by, and leaves along the most negative
curvature (Jacot et al., 2021). Where ‖∇f‖ has a local minimum along the way is a plateau, and a
start for a search of the critical point behind it.

Balanced classes have K−1 equal most negative curvatures at the origin, so that from equal scales
all ranks grow at once; with a `spread` between the dimensions of the start they grow one after
another, and the plateaus are the rank ladder's.

The equation is stiff (curvatures from μ to 1): it is integrated by SciPy's LSODA with the exact
Hessian, to relative errors of `rtol` a step.

    >>> flow = gradient_flow(problem, params)
    >>> abs(float(flow.value[-1] - solution.value)) < 1e-6
    True
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key
from scipy.integrate import solve_ivp

from ufm._support.shown import Shown
from ufm.hessian import dense_hessian
from ufm.model.params import Params, norm
from ufm.model.problem import Problem, value_and_gradient
from ufm.model.start import init_params

RTOL = 1e-4
#: Times are in units of 1/min(λ_W, λ_H), the slowest rate of decay.
HORIZON = 400.0
#: Gradient norm at which the flow has arrived: beyond, only rounding moves it.
_ARRIVED = 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Flow(Shown):
    """A solution of ẋ = −∇f at the T times of the integrator; `points` has a leading axis.

    `plateaus` are the indices of the local minima of ‖∇f‖ on the way, the end apart.
    """

    time: Float[np.ndarray, " T"]
    value: Float[np.ndarray, " T"]
    grad_norm: Float[np.ndarray, " T"]
    points: Params

    @property
    def plateaus(self) -> tuple[int, ...]:
        size = self.grad_norm
        inner = (size[1:-1] < size[:-2]) & (size[1:-1] < size[2:])
        return tuple(int(i) + 1 for i in np.flatnonzero(inner))

    def point(self, moment: int) -> Params:
        """W, H, b at one moment."""
        return jax.tree.map(lambda x: jnp.asarray(x[moment]), self.points)


def gradient_flow(
    problem: Problem, start: Params, *, horizon: float = HORIZON, rtol: float = RTOL
) -> Flow:
    """Follow ẋ = −∇f with an implicit method that takes the Hessian as a matrix.

    Args:
        problem: The problem, with decays.
        start: The starting point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        horizon: How long, in units of 1 / min(λ_W, λ_H).
        rtol: Relative tolerance of the integrator.

    Returns:
        Times, values, gradient norms and points.

    Raises:
        ValueError: A decay is 0, or the integration fails.
    """
    rate = min(float(problem.lam_w), float(problem.lam_h))
    if not rate > 0:
        raise ValueError(
            "the flow is followed for a multiple of 1/min(lam_w, lam_h): both must be > 0"
        )
    flat, unravel = ravel_pytree(start)

    def slope(_: float, x: np.ndarray) -> np.ndarray:
        return -np.asarray(_gradient(problem, unravel(jnp.asarray(x))))

    def jacobian(_: float, x: np.ndarray) -> np.ndarray:
        return -dense_hessian(problem, unravel(jnp.asarray(x)))

    def arrived(time: float, x: np.ndarray) -> float:
        return float(np.linalg.norm(slope(time, x))) - _ARRIVED

    arrived.terminal = True  # pyright: ignore[reportFunctionMemberAccess]  # SciPy's way to say it
    found = solve_ivp(
        slope,
        (0.0, horizon / rate),
        np.asarray(flat),
        method="LSODA",
        jac=jacobian,
        events=arrived,
        rtol=rtol,
        atol=rtol * _sizes(start),
    )
    if not found.success:
        raise ValueError(f"the gradient flow could not be followed: {found.message}")
    # One by one: the number of moments is another with every run, and so would be its program.
    values = [value_and_gradient(problem, unravel(jnp.asarray(x))) for x in found.y.T]
    points = [jax.tree.map(np.asarray, unravel(jnp.asarray(x))) for x in found.y.T]
    return Flow(
        time=found.t,
        value=np.array([float(value) for value, _ in values]),
        grad_norm=np.array([float(norm(gradient)) for _, gradient in values]),
        points=jax.tree.map(lambda *leaves: np.stack(leaves), *points),
    )


def small_start(problem: Problem, key: Key[Array, ""], scale: float, spread: float = 1.0) -> Params:
    """Gaussian entries; those of dimension j are `spread`^j times as large as `scale`. b = 0."""
    unit = init_params(problem, key, scale)
    sizes = spread ** jnp.arange(problem.dim, dtype=unit.W.dtype)
    b = None if unit.b is None else jnp.zeros_like(unit.b)
    return Params(unit.W * sizes[None, :], unit.H * sizes[:, None], b)


def _sizes(start: Params) -> Float[np.ndarray, " P"]:
    """What is small at first decides which saddles come: it must not drown in the error of a step.

    Root mean square entries of every dimension of W and of H at the start, and of b.
    """
    W, H = (np.asarray(x) for x in (start.W, start.H))
    parts = [
        np.broadcast_to(np.sqrt(np.mean(W**2, axis=0)), W.shape).ravel(),
        np.broadcast_to(np.sqrt(np.mean(H**2, axis=1, keepdims=True)), H.shape).ravel(),
    ]
    if start.b is not None:
        parts.append(np.ones(len(start.b)))
    sizes = np.concatenate(parts)
    return np.where(sizes > 0, sizes, 1.0)


@jax.jit
def _gradient(problem: Problem, point: Params) -> Float[Array, " P"]:
    return ravel_pytree(value_and_gradient(problem, point)[1])[0]
