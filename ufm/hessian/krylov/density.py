r"""Estimate the density of the Hessian's eigenvalues from products, with confidence intervals.

The spectral measure of ∇²f (n×n) is (1/n) Σ_i δ(λ_i). For v uniform on the unit sphere the
measure Σ_i (u_iᵀv)² δ(λ_i) has it as its mean, and m products give the Gauss rule of the latter
(`ufm.hessian.krylov.lanczos`). With probes v_1, …, v_P, their nodes θ_pk and weights w_pk,

    φ_σ(x) = (1/P) Σ_p Σ_k w_pk N(x; θ_pk, σ²).

This is stochastic Lanczos quadrature: Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38 (2017);
for networks Ghorbani, Krishnan and Xiao, ICML 2019. Every interval allows for two errors: that of
the random probes (`ufm.hessian.krylov.confidence`), and that of approximating a probe's measure by
m products (`ufm.hessian.krylov.stieltjes`). The second error does not show in the variance of the
probes, because all rules misplace an unresolved eigenvalue in the same way.

    >>> density = spectral_density(problem, origin(problem), key, num_matvecs=20)
    >>> value, lower, upper = density.cumulative(-1e-6)     # fraction of negative eigenvalues
    >>> bool(lower <= 18 / 148 <= upper)
    True
    >>> found = spectral_density_of(lambda x: jnp.sum(x**2), jnp.ones(8), key, num_matvecs=4)
    >>> float(found.cumulative(1.9)[0]), float(found.cumulative(2.1)[0])
    (0.0, 1.0)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Int, Key

from ufm._support.pytree import whole_number
from ufm.hessian.krylov.lanczos import GaussRule, Lanczos, advance, probe, quadrature
from ufm.hessian.krylov.measure import (
    SpectralDensity,
    checked_confidence,
    checked_smoothing,
    smoothed,
)
from ufm.hessian.products.trees import array_tree, check_memory, check_tree, flat, function_product
from ufm.model.hessian_product import Linearisation, hessian_product, linearise
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.model.variant import by_variant


@by_variant
def spectral_density(
    problem: Problem,
    params: Params,
    key: Key[Array, ""],
    *,
    num_probes: int = 10,
    num_matvecs: int = 100,
    grid: Any = None,
    width: float | None = None,
    confidence: float = 0.95,
    max_bytes: int = 2**32,
) -> SpectralDensity:
    """Estimate the density of the eigenvalues of ∇²f at any point, with confidence intervals.

    The cost is num_probes · num_matvecs products, fewer if the Hessian has fewer distinct
    eigenvalues, and memory for num_matvecs · num_parameters numbers.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        key: Random key; probe i depends only on it and on i.
        num_probes: Number of random vectors.
        num_matvecs: Lanczos steps for each, capped at the number of parameters.
        grid: Points for the density, in units of the eigenvalues; None covers the spectrum.
        width: Standard deviation of the Gaussian at each eigenvalue; None is 1/100 of the spectrum
            if every probe is resolved, else π/2 · spectrum / num_matvecs, about the resolution.
        confidence: Probability with which an interval contains the exact value, at least.
        max_bytes: Largest memory for the basis, in bytes.

    Returns:
        The density on the grid with its lower and upper bounds; `cumulative`, `extremes` and more.

    Raises:
        ValueError: The point is not finite or has the wrong shape, or an argument is out of range.
    """
    check_shapes(problem, params)
    checked_smoothing(grid, width)  # before the products, not after
    confidence = checked_confidence(confidence)
    num_matvecs, size = _check(params, num_probes, num_matvecs, max_bytes)
    at = linearise(problem, params)
    rules = _rules(
        lambda run, until: _advance_problem(problem, at, run, until),
        *(params, key, num_probes, num_matvecs),
    )
    return smoothed(rules, size, num_matvecs, confidence, grid, width)


def spectral_density_of(
    function: Callable[..., Any],
    point: Any,
    key: Key[Array, ""],
    *,
    args: Any = (),
    num_probes: int = 10,
    num_matvecs: int = 100,
    grid: Any = None,
    width: float | None = None,
    confidence: float = 0.95,
    max_bytes: int = 2**32,
) -> SpectralDensity:
    """Estimate the density of the Hessian's eigenvalues for any function, such as a network's loss.

    Products use forward-over-reverse differentiation, compiled once per function and shapes.

    Args:
        function: `function(point, *args)` is a scalar. Pass data as `args`: data that the function
            closes over is compiled in.
        point: A tree of float arrays.
        key: Random key; probe i depends only on it and on i.
        args: A tuple of further arguments, or the only one.
        num_probes: As for `spectral_density`.
        num_matvecs: As for `spectral_density`.
        grid: As for `spectral_density`.
        width: As for `spectral_density`.
        confidence: As for `spectral_density`.
        max_bytes: As for `spectral_density`.

    Returns:
        As `spectral_density`.

    Raises:
        ValueError: The leaves are not all float32 or all float64, or as for `spectral_density`.
    """
    point = array_tree(point)
    checked_smoothing(grid, width)  # before the products, not after
    confidence = checked_confidence(confidence)
    num_matvecs, size = _check(point, num_probes, num_matvecs, max_bytes)
    rules = _rules(
        lambda run, until: _advance_function(function, point, args, run, until),
        *(point, key, num_probes, num_matvecs),
    )
    return smoothed(rules, size, num_matvecs, confidence, grid, width)


@functools.partial(jax.jit, donate_argnames="run")
def _advance_problem(
    problem: Problem, at: Linearisation, run: Lanczos, until: Int[Array, ""]
) -> Lanczos:
    return advance(
        flat(lambda direction: hessian_product(problem, at, direction), at.params), run, until
    )


@functools.partial(jax.jit, static_argnames="function", donate_argnames="run")
def _advance_function(
    function: Callable[..., Any], point: Any, args: Any, run: Lanczos, until: Int[Array, ""]
) -> Lanczos:
    return advance(flat(function_product(function, point, args), point), run, until)


def _rules(
    step: Callable[[Lanczos, Int[Array, ""]], Lanczos],
    point: Any,
    key: Key[Array, ""],
    num_probes: int,
    num_matvecs: int,
) -> list[GaussRule]:
    """Run one probe after another, since running all at once would store every basis."""
    leaves = jax.tree.leaves(point)
    size, dtype = sum(leaf.size for leaf in leaves), leaves[0].dtype
    keys = (jax.random.fold_in(key, i) for i in range(num_probes))
    return [quadrature(step, probe(k, size, dtype), num_matvecs) for k in keys]


def _check(point: Any, num_probes: int, num_matvecs: int, max_bytes: int) -> tuple[int, int]:
    """num_matvecs capped at the number of parameters, and the number of parameters."""
    size, dtype = check_tree(point)
    whole_number("num_probes", num_probes)
    num_matvecs = min(whole_number("num_matvecs", num_matvecs), size)
    check_memory("num_matvecs", num_matvecs, 1, size, dtype, max_bytes)
    return num_matvecs, size
