"""The public interface of the solvers: `solve` for one start, `solve_many` for a batch."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Key

from ufm._support.pytree import entry, require, stacked
from ufm._support.quick_jit import QuickJit, is_traced, quick_jit
from ufm._support.threads import in_order
from ufm.model.problem import Params, Problem, check_shapes
from ufm.model.problem_batch import batch_axes, problem_batch, problem_entry
from ufm.model.start import init_params
from ufm.solvers import adam, gradient_descent, lbfgs, momentum, newton
from ufm.solvers._loop import Method, noise_by, run
from ufm.solvers._solution import Solution, Status, continued

# A method is a module or an object with the protocol's members.
METHODS: dict[str, Method] = {
    "newton": newton,
    "lbfgs": lbfgs,
    "gradient_descent": gradient_descent,
    "heavy_ball": momentum.heavy_ball,
    "nesterov": momentum.nesterov,
    "adam": adam,
}
#: The fastest method in the benchmarks.
DEFAULT_METHOD = "newton"


def default_tol(problem: Problem, dtype: Any) -> Any:
    """min(1e-10, 1e-6 μ) in float64, to resolve μ; 0 in float32, which stops at the noise floor.

    If μ = 0, the tolerance is 1e-10. A variant of the model has its own for float64.
    """
    xp: Any = jnp if is_traced(problem) else np
    if jnp.finfo(dtype).bits < 64:
        return xp.zeros((), dtype)
    if problem.variant is not None:
        return xp.asarray(problem.variant.default_tol(problem), dtype)
    mu = problem.mu(dtype)
    return xp.where(mu > 0, xp.minimum(1e-10, 1e-6 * mu), 1e-10)


def _methods(problem: Problem) -> Mapping[str, Method]:
    """The methods by name, those of the problem's variant if it has one."""
    return METHODS if problem.variant is None else problem.variant.methods


def noise_floor(problem: Problem, params: Params) -> Array:
    """An estimate from above of the rounding error of the gradient's norm at a point."""
    return noise_by(_methods(problem)[DEFAULT_METHOD])(problem, params)


def _run(
    problem: Problem,
    params: Params,
    tol: Array,
    max_steps: Array,
    *,
    method: str,
    use_noise_floor: bool,
) -> Solution:
    return run(_methods(problem)[method], problem, params, tol, max_steps, use_noise_floor)


_STATIC = ("method", "use_noise_floor")
#: Newton's method takes few steps. First-order methods take too many for the host, and with the
#: cheap options half as long again.
_newton = quick_jit(_run, static_argnames=_STATIC, host_work=800_000)
_first_order = quick_jit(_run, static_argnames=_STATIC, host_work=0, thorough=True)


def _program(method: str) -> QuickJit[..., Solution]:
    return _newton if method == "newton" else _first_order


def check_options(method: str, tol: Any, max_steps: Any) -> None:
    """Raise `ValueError`, naming the option, if an option is invalid."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of: {', '.join(METHODS)}")
    if tol is not None:
        require("tol", tol, lambda x: x >= 0, "a non-negative gradient norm")
    if max_steps is None or isinstance(max_steps, Tracer):
        return
    whole = not isinstance(max_steps, bool) and max_steps == int(max_steps)
    if not whole or not 0 <= max_steps < 2**31:
        raise ValueError(f"max_steps must be a whole number below 2^31, got {max_steps}")


def check_method(problem: Problem, method: str) -> None:
    """Raise `ValueError` if the problem's variant does not have the method."""
    methods = _methods(problem)
    if method not in methods:
        raise ValueError(
            f"method {method!r} is not for problems with {getattr(problem.variant, 'name', '')}; "
            f"choose one of: {', '.join(methods)}"
        )


def _prepare(problem: Problem, dtype: Any, method: str, tol: Any, max_steps: int | None):
    check_options(method, tol, max_steps)
    check_method(problem, method)
    if max_steps is None:
        max_steps = _methods(problem)[method].default_max_steps
    use_noise_floor = tol is None and jnp.finfo(dtype).bits < 64
    tol = default_tol(problem, dtype) if tol is None else tol
    if not isinstance(max_steps, jax.Array):  # on the host, so that nothing is compiled
        max_steps = jax.device_put(np.int32(max_steps))
    return jnp.asarray(tol, dtype), jnp.asarray(max_steps, jnp.int32), use_noise_floor


def solve(
    problem: Problem,
    params: Params,
    *,
    method: str = DEFAULT_METHOD,
    tol: float | None = None,
    max_steps: int | None = None,
) -> Solution:
    """Minimise f from one start until ‖∇f‖ ≤ tol.

    A run that does not converge raises no error: read `status`, or call `explain()`. On a CPU NumPy
    makes the first runs at a size, and nothing is compiled. After some dozens of runs, or for a
    large problem, XLA compiles the program. `jax.jit(ufm.solve)` compiles at once.

    Args:
        problem: The problem.
        params: The start: W (K, d), H (d, N), samples ordered by class, b (K,) or None. Its dtype
            is that of the run.
        method: "newton", "lbfgs", "gradient_descent", "heavy_ball", "nesterov" or "adam".
        tol: The gradient norm ‖∇f‖ to reach; None is min(1e-10, 1e-6 μ) in float64 and the rounding
            floor of the gradient in float32.
        max_steps: Largest number of steps; None is the method's default.

    Returns:
        The best point, its value and gradient norm, the numbers of steps and products, the status
        and the history.

    Raises:
        ValueError: The problem is a batch, the shapes do not fit, or an option is out of range.
        TypeError: The arrays are not all float32 or all float64.
    """
    run, _ = prepared_run(problem, params, method, tol)
    return run(max_steps)


def prepared_run(
    problem: Problem, params: Params, method: str, tol: float | None, times: int = 1
) -> tuple[Callable[[int | None], Solution], bool]:
    """`solve` as a function of `max_steps`, for this many calls; whether it is compiled."""
    if problem_batch(problem) is not None:
        raise ValueError("the problem is a batch: use solve_many, or jax.vmap over both arguments")
    check_shapes(problem, params)
    _check_start(problem, params)
    check_options(method, tol, None)

    def arguments(max_steps: int | None) -> tuple[Any, dict[str, Any]]:
        tols, steps, floor = _prepare(problem, params.W.dtype, method, tol, max_steps)
        return (problem, params, tols, steps), {"method": method, "use_noise_floor": floor}

    args, kwargs = arguments(None)
    program, compiled = _program(method).chosen(times, *args, **kwargs)

    def run(max_steps: int | None) -> Solution:
        args, kwargs = arguments(max_steps)
        return _name_status(program(*args, **kwargs))

    return run, compiled


def _check_start(problem: Problem, params: Params) -> None:
    if problem.variant is not None:
        problem.variant.check_start(params)


def _name_status(solution: Solution) -> Solution:
    if isinstance(solution.status, Tracer):
        return solution
    object.__setattr__(solution, "status", Status(int(solution.status)))
    return solution


def solve_many(
    problem: Problem,
    key: Key[Array, ""] | None = None,
    *,
    num_starts: int | None = None,
    scale: float = 0.1,
    starts: Params | None = None,
    method: str = DEFAULT_METHOD,
    tol: float | None = None,
    max_steps: int | None = None,
    dtype: Any = None,
    on_done: Callable[[int], None] | None = None,
) -> Solution:
    """Solve from many starts; every array of the `Solution` gains a leading axis.

    Give `key` and `num_starts`, or a batch of `starts`. A batched problem (a leading axis on its
    hyperparameters; same loss family and shape) needs one start per entry. On a CPU the starts run
    one by one through one program, on all cores once it is compiled: entry i equals `solve` from
    start i. On an accelerator the starts run in lock step.

    Args:
        problem: The problem, or a batch of them.
        key: Random key; start i uses `fold_in(key, i)`.
        num_starts: Number of starts to draw.
        scale: Standard deviation of the entries of drawn starts.
        starts: Starts with a leading axis, in place of `key` and `num_starts`.
        method: As for `solve`.
        tol: As for `solve`.
        max_steps: As for `solve`.
        dtype: float32 or float64 for drawn starts; None is JAX's default.
        on_done: Called with i as starts finish (CPU), or after the batch.

    Returns:
        All runs as one `Solution`.

    Raises:
        ValueError: Neither or both of `key` and `starts` are given, or as for `solve`.
    """
    batch = problem_batch(problem)
    if starts is None:
        if key is None:
            raise ValueError("solve_many needs a key for random starts, or a batch of starts")
        count = num_starts if num_starts is not None else (batch or 20)
        starts = init_params(problem_entry(problem, 0, batch), key, scale, count, dtype)
    elif num_starts is not None:
        raise ValueError("give num_starts for random starts, or starts, but not both")
    size = _batch_size(problem, batch, starts)
    _check_start(problem, starts)
    if jax.default_backend() == "cpu" and not isinstance(starts.W, Tracer):
        return _one_by_one(problem, batch, starts, method, tol, max_steps, on_done)
    solution = solve_in_lock_step(problem, starts, method, tol, max_steps)
    if on_done is not None:
        jax.block_until_ready(solution)
        for i in range(size):
            on_done(i)
    return solution


def solve_in_lock_step(
    problem: Problem,
    starts: Params,
    method: str = DEFAULT_METHOD,
    tol: float | Array | None = None,
    max_steps: int | None = None,
) -> Solution:
    """`solve_many` as it runs on accelerators: all starts take every step together.

    `tol` may have one entry for each start. The last bits of a result may depend on the number of
    starts, but not on the other starts.
    """
    tols, steps, floor = _prepare(problem, starts.W.dtype, method, tol, max_steps)
    in_axes = (batch_axes(problem, problem_batch(problem)), 0, 0 if tols.ndim else None, None)
    arguments = problem, starts, tols, steps
    single = functools.partial(_program(method), method=method, use_noise_floor=floor)
    return jax.vmap(single, in_axes=in_axes)(*arguments)


def polish(
    problem: Problem, solution: Solution, *, tol: float | None = None, max_steps: int | None = None
) -> Solution:
    """Continue float32 runs by Newton steps in float64, which certificates need.

    Args:
        problem: The problem.
        solution: A run, or a batch of them.
        tol: As for `solve`, in float64.
        max_steps: Largest number of float64 steps; None is the method's default.

    Returns:
        The runs in float64. Steps, products and history continue those of `solution`; `status` and
        `tol` are those of the float64 run.

    Raises:
        ValueError: JAX has no float64, or an option is out of range.
    """
    if jnp.result_type(float) != jnp.dtype(jnp.float64):
        raise ValueError("polishing needs float64: jax.config.update('jax_enable_x64', True)")
    start = jax.tree.map(lambda x: x.astype(jnp.float64), solution.params)
    if start.W.ndim == 2:
        found = solve(problem, start, tol=tol, max_steps=max_steps)
    else:
        found = solve_many(problem, starts=start, tol=tol, max_steps=max_steps)
    return dataclasses.replace(
        found,
        num_steps=found.num_steps + solution.num_steps,
        num_products=found.num_products + solution.num_products,
        history=continued(solution, found),
    )


def _batch_size(problem: Problem, batch: int | None, starts: Params) -> int:
    """Number of starts. Raises `ValueError` if the leading axes differ."""
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(starts)}
    if starts.W.ndim != 3 or len(lengths) != 1 or 0 in lengths:
        shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(starts)]
        raise ValueError(f"starts need one leading axis, the same for W, H and b; got {shapes}")
    size = lengths.pop()
    if batch is not None and batch != size:
        raise ValueError(f"the problem has {batch} entries but there are {size} starts")
    single = (jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in jax.tree.leaves(starts))
    check_shapes(problem, jax.tree.unflatten(jax.tree.structure(starts), single))
    return size


def _one_by_one(
    problem: Problem,
    batch: int | None,
    starts: Params,
    method: str,
    tol: float | None,
    max_steps: int | None,
    on_done: Callable[[int], None] | None,
) -> Solution:
    """Run every start through the program of a single solve, on all cores once it is compiled."""
    size = int(starts.W.shape[0])

    def arguments(i: int) -> tuple[Any, dict[str, Any]]:
        single, start = problem_entry(problem, i, batch), entry(starts, i)
        tol_array, steps, floor = _prepare(single, start.W.dtype, method, tol, max_steps)
        return (single, start, tol_array, steps), {"method": method, "use_noise_floor": floor}

    args, kwargs = arguments(0)
    program, compiled = _program(method).chosen(size, *args, **kwargs)

    def one(i: int) -> Solution:
        args, kwargs = arguments(i)
        return jax.block_until_ready(program(*args, **kwargs))

    return stacked(list(in_order(one, size, on_done, parallel=compiled)))
