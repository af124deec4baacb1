"""What people use today, each asked for the same gradient norm from the same start.

A runner takes (problem, start, limit in seconds) and returns the point where it ended and how many
gradients and Hessian products it took (0 where the library does not say).
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import scipy.optimize
import torch
from cases import TOL
from jax.flatten_util import ravel_pytree
from threadpoolctl import threadpool_limits

import ufm
from ufm.model.objective import objective, value_and_gradient
from ufm.model.problem import norm


class Outcome(NamedTuple):
    params: ufm.Params
    evaluations: int


Runner = Callable[[ufm.Problem, ufm.Params, float], Outcome]

_compiled = jax.jit(value_and_gradient)
_product = jax.jit(ufm.hvp)


class OutOfTime(Exception):
    """Raised inside a callback of a library that has no time limit of its own."""


def gradient_norm(problem: ufm.Problem, params: ufm.Params) -> float:
    """The judge: ‖∇f‖ in float64."""
    return float(norm(_compiled(problem, params)[1]))


_solve = jax.jit(ufm.solve, static_argnames=("method",))


def ours(method: str) -> Runner:
    """`ufm.solve`, compiled as for many runs."""

    def run(problem: ufm.Problem, start: ufm.Params, limit: float) -> Outcome:
        del limit
        found = _solve(problem, start, method=method, tol=TOL)
        return Outcome(found.params, int(found.num_products))

    return run


# SciPy --------------------------------------------------------------------------------------------


def scipy_minimize(method: str, options: dict[str, Any]) -> Runner:
    """`scipy.optimize.minimize` over jitted derivatives.

    Its BLAS threads fight XLA's for the same cores: without a cap it is tens of times slower.
    """

    def run(problem: ufm.Problem, start: ufm.Params, limit: float) -> Outcome:
        flat, unravel = ravel_pytree(start)
        end, best, count = time.perf_counter() + limit, [np.asarray(flat)], [0]

        def value(x: Any) -> tuple[float, Any]:
            count[0] += 1
            best[0] = x
            if time.perf_counter() > end:
                raise OutOfTime
            f, g = _compiled(problem, unravel(x))
            return float(f), np.asarray(ravel_pytree(g)[0])

        def product(x: Any, direction: Any) -> Any:
            count[0] += 1
            return np.asarray(ravel_pytree(_product(problem, unravel(x), unravel(direction)))[0])

        second = {"hessp": product} if method.startswith("trust") else {}
        with threadpool_limits(1):
            try:
                found = scipy.optimize.minimize(
                    value, np.asarray(flat), jac=True, method=method, options=options, **second
                ).x
            except OutOfTime:
                found = best[0]
        return Outcome(unravel(jnp.asarray(found)), count[0])

    return run


# PyTorch ------------------------------------------------------------------------------------------


def _torch_objective(problem: ufm.Problem, start: ufm.Params) -> tuple[list[Any], Any]:
    """The parameters as tensors, and f as a script would write it."""
    leaves = [torch.tensor(np.asarray(x), requires_grad=True) for x in (start.W, start.H, start.b)]
    W, H, b = leaves
    labels = torch.tensor(problem.labels.astype(np.int64))
    one_hot = torch.nn.functional.one_hot(labels, problem.num_classes).double().T
    decays = [float(x) for x in (problem.lam_w, problem.lam_h, problem.lam_b)]

    def value() -> Any:
        V = W @ H + b[:, None]
        if isinstance(problem.loss, ufm.MSE):
            data = 0.5 * ((V - one_hot) ** 2).sum(dim=0).mean()
        else:
            data = torch.nn.functional.cross_entropy(V.T, labels)
        return data + sum(0.5 * lam * (x**2).sum() for lam, x in zip(decays, leaves, strict=True))

    return leaves, value


def _torch_run(optimizer_of: Callable[[list[Any]], Any], check_every: int) -> Runner:
    def run(problem: ufm.Problem, start: ufm.Params, limit: float) -> Outcome:
        leaves, value = _torch_objective(problem, start)
        optimizer, count, end = optimizer_of(leaves), 0, time.perf_counter() + limit

        def closure() -> Any:
            nonlocal count
            count += 1
            optimizer.zero_grad()
            f = value()
            f.backward()
            return f

        while time.perf_counter() < end:
            before = [x.detach().clone() for x in leaves]
            for _ in range(check_every):
                optimizer.step(closure)
            closure()
            size = torch.sqrt(sum((x.grad**2).sum() for x in leaves))
            same = all(torch.equal(x, y) for x, y in zip(leaves, before, strict=True))
            if size <= TOL or same or not torch.isfinite(size):
                break
        W, H, b = (jnp.asarray(x.detach().numpy()) for x in leaves)
        return Outcome(ufm.Params(W, H, b), count)

    return run


def torch_sgd(lr: float = 0.1, momentum: float = 0.9) -> Runner:
    """Full-batch SGD with momentum, as the published scripts do it."""
    return _torch_run(lambda x: torch.optim.SGD(x, lr=lr, momentum=momentum), check_every=100)


def torch_lbfgs() -> Runner:
    """`torch.optim.LBFGS` with the strong Wolfe line search."""
    return _torch_run(
        lambda x: torch.optim.LBFGS(
            x, max_iter=100, history_size=10, tolerance_grad=0.0, tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        ),
        check_every=1,
    )  # fmt: skip


# optimistix ---------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("max_steps",))
def _optimistix(problem: ufm.Problem, start: ufm.Params, max_steps: int) -> tuple[Any, Any]:
    with jax.numpy_dtype_promotion("standard"):
        found = optimistix.minimise(
            lambda x, problem: objective(problem, x),
            optimistix.LBFGS(rtol=1e-12, atol=1e-12),
            start, args=problem, max_steps=max_steps, throw=False,
        )  # fmt: skip
    return found.value, found.stats["num_steps"]


def optimistix_lbfgs(problem: ufm.Problem, start: ufm.Params, limit: float) -> Outcome:
    """optimistix; it stops by changes of f and of the point, and has no time limit."""
    del limit
    value, steps = _optimistix(problem, start, 3_000)
    return Outcome(value, int(steps))


# Heavy ball, tuned on the very problem ------------------------------------------------------------


@jax.jit
def _heavy_ball(
    problem: ufm.Problem, state: tuple[Any, ...], rate: Any, momentum: Any, steps: Any
) -> tuple[Any, ...]:
    """x⁺ = x − rate ∇f + momentum (x − x⁻) until ‖∇f‖ ≤ TOL, or so many steps."""

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        x, last, _, count = state
        grad = value_and_gradient(problem, x)[1]
        new = jax.tree.map(lambda a, g, b: a - rate * g + momentum * (a - b), x, grad, last)
        return new, x, norm(grad), count + 1

    stop = state[3] + steps
    return jax.lax.while_loop(lambda s: (s[2] > TOL) & (s[3] < stop), advance, state)


def _run_heavy_ball(
    problem: ufm.Problem, start: ufm.Params, limit: float, rate: float, momentum: float
) -> tuple[Outcome, bool]:
    state = (start, start, jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32))
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        state = jax.block_until_ready(_heavy_ball(problem, state, rate, momentum, jnp.int32(50)))
        if not state[2] > TOL:
            break
    # The gradient that stopped the loop was that of the point before the last step.
    return Outcome(state[1], int(state[3])), bool(state[2] <= TOL)


def tuned_heavy_ball(problem: ufm.Problem, start: ufm.Params, limit: float) -> tuple[Any, Any]:
    """The fastest (rate, momentum) of a grid on this start, and its runner; None if none arrives.

    Candidates slower than `limit` are dropped: the tuning itself is not counted.
    """
    best: tuple[float, float, float] | None = None
    warm = (0.1, 0.5)
    _run_heavy_ball(problem, start, 1e-3, *warm)
    for momentum in (0.7, 0.8, 0.85, 0.9, 0.95, 0.98):
        for rate in np.geomspace(0.3, 300.0, 19):
            allowed = limit if best is None else best[0]
            begin = time.perf_counter()
            _, arrived = _run_heavy_ball(problem, start, allowed, float(rate), momentum)
            taken = time.perf_counter() - begin
            if arrived and (best is None or taken < best[0]):
                best = (taken, float(rate), momentum)
    if best is None:
        return None, None
    _, rate, momentum = best

    def run(problem: ufm.Problem, start: ufm.Params, limit: float) -> Outcome:
        return _run_heavy_ball(problem, start, limit, rate, momentum)[0]

    return {"rate": rate, "momentum": momentum}, run
