r"""Gradient flow ẋ = −∇f, and the saddles at which it lingers.

From a start near the origin the flow passes from saddle to saddle. The closer it approaches a
saddle, the longer it stays (in proportion to the logarithm of the distance), and it leaves along
the most negative curvature (Jacot et al., 2021). A local minimum of ‖∇f‖ along the flow is a
plateau, from which to search for the nearby critical point.

With balanced classes the most negative curvature at the origin has multiplicity K−1, so that from
equal scales all ranks grow at once. With a `spread` between the dimensions of the start they grow
one after another, and the plateaus are those of the rank ladder.

The equation is stiff (curvatures from μ to 1). SciPy's LSODA integrates it with the exact Hessian,
to relative errors of `rtol` per step.

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
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params, norm
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.model.variant import by_variant

RTOL = 1e-4
#: Times are in units of 1/min(λ_W, λ_H), the slowest rate of decay.
HORIZON = 400.0
#: Gradient norm at which the flow has converged; from then on only rounding errors move it.
_ARRIVED = 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Flow(Shown):
    """A solution of ẋ = −∇f at the T times of the integrator; `points` has a leading axis.

    `plateaus` are the indices of the local minima of ‖∇f‖ along the flow, without the end.
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
        """W, H, b at one time."""
        return jax.tree.map(lambda x: jnp.array(x[moment]), self.points)


@by_variant
def gradient_flow(
    problem: Problem, start: Params, *, horizon: float = HORIZON, rtol: float = RTOL
) -> Flow:
    """Integrate ẋ = −∇f by an implicit method that uses the Hessian matrix.

    Args:
        problem: The problem, with decays.
        start: The starting point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        horizon: End time, in units of 1 / min(λ_W, λ_H).
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
        return -np.asarray(_gradient(problem, unravel(jnp.array(x))))

    def jacobian(_: float, x: np.ndarray) -> np.ndarray:
        return -dense_hessian(problem, unravel(jnp.array(x)))

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
    # One by one, because the number of times differs in every run and would need a new program.
    values = [value_and_gradient(problem, unravel(jnp.array(x))) for x in found.y.T]
    points = [jax.tree.map(np.asarray, unravel(jnp.array(x))) for x in found.y.T]
    return Flow(
        time=found.t,
        value=np.array([float(value) for value, _ in values]),
        grad_norm=np.array([float(norm(gradient)) for _, gradient in values]),
        points=jax.tree.map(lambda *leaves: np.stack(leaves), *points),
    )


def small_start(problem: Problem, key: Key[Array, ""], scale: float, spread: float = 1.0) -> Params:
    """Draw Gaussian entries of size `scale` · `spread`^j in dimension j, with b = 0."""
    unit = init_params(problem, key, scale)
    sizes = spread ** jnp.arange(problem.dim, dtype=unit.W.dtype)
    b = None if unit.b is None else jnp.zeros_like(unit.b)
    return Params(unit.W * sizes[None, :], unit.H * sizes[:, None], b)


def _sizes(start: Params) -> Float[np.ndarray, " P"]:
    """Absolute tolerances, so that step errors do not hide small entries, which select the saddles.

    They follow the root mean square entries of every dimension of W and H at the start, and of b.
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
