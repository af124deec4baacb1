"""Hessian spectra by what people use today, each at the same point.

A runner takes (problem, point) and returns eigenvalues from an end inwards, as that library gives
them. What serves only to set a library up fairly, such as the diagonal of the decay where it knows
none, is done as cheaply as its interface allows, and choices are made in the peer's favour.
"""

import contextlib
import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import curvlinops
import jax
import jax.numpy as jnp
import numpy as np
import pyhessian
import scipy.sparse.linalg as sparse
import torch
from jax.flatten_util import ravel_pytree
from matfree import decomp, eig
from threadpoolctl import threadpool_limits

import ufm
from ufm.model.params import Params

#: Eigenvalues asked for at either end.
COUNT = 5
#: Seconds that an iterative peer may take.
LIMIT = 300.0


class Found(NamedTuple):
    """Eigenvalues from the ends inwards, empty where not asked for; `full` is all, ascending.

    `products` counts products with the Hessian, None where nothing is iterated.
    """

    largest: Any = ()
    smallest: Any = ()
    full: Any = None
    products: int | None = None
    note: str = ""


Runner = Callable[[ufm.Problem, Params], Found]

#: JAX's peers get the same compiled product as ours.
product = jax.jit(ufm.hvp)


class OutOfTime(Exception):
    """Raised inside a product of a library that has no time limit of its own."""


class _Counted:
    """A product with a counter and a time limit."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.count, self.end = work, 0, time.perf_counter() + LIMIT

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        if time.perf_counter() > self.end:
            raise OutOfTime
        return self.work(*args)


# Dense --------------------------------------------------------------------------------------------


@jax.jit
def _matrix(problem: ufm.Problem, point: Params) -> Any:
    flat, unravel = ravel_pytree(point)

    def column(i: Any) -> Any:
        unit = jnp.zeros_like(flat).at[i].set(1.0)
        return ravel_pytree(ufm.hvp(problem, point, unravel(unit)))[0]

    return jax.lax.map(column, jnp.arange(flat.size), batch_size=64)


def dense(problem: ufm.Problem, point: Params) -> Found:
    """The whole matrix by products, then `numpy.linalg.eigvalsh`, BLAS threads as they are."""
    begin = time.perf_counter()
    matrix = np.asarray(jax.block_until_ready(_matrix(problem, point)))
    assembly = time.perf_counter() - begin
    values = np.linalg.eigvalsh(matrix)
    total = time.perf_counter() - begin
    return Found(
        values[::-1][:COUNT], values[:COUNT], values, len(values),
        f"assembly {assembly:.1f} s, eigvalsh {total - assembly:.1f} s",
    )  # fmt: skip


# SciPy --------------------------------------------------------------------------------------------


def _flat_product(problem: ufm.Problem, point: Params) -> tuple[int, Callable[[Any], Any]]:
    flat, unravel = ravel_pytree(point)

    def matvec(x: Any) -> Any:
        return np.asarray(ravel_pytree(product(problem, point, unravel(x.ravel())))[0])

    return flat.size, matvec


def _largest_by_arpack(size: int, matvec: Callable[[Any], Any]) -> tuple[Any, int, str]:
    """The largest eigenvalues, descending; ARPACK's own tolerance (machine precision) and basis."""
    counted = _Counted(matvec)
    operator = sparse.LinearOperator((size, size), matvec=counted, dtype=np.float64)
    start, note = np.random.default_rng(0).standard_normal(size), ""
    # Its BLAS threads fight XLA's for the same cores. PyTorch keeps its own.
    with threadpool_limits(1, user_api="blas"):
        try:
            values = sparse.eigsh(
                operator, k=COUNT, which="LA", v0=start, return_eigenvectors=False
            )
        except sparse.ArpackNoConvergence as error:
            values, note = error.eigenvalues, f"{len(error.eigenvalues)} of {COUNT} converged"
        except OutOfTime:
            values, note = np.zeros(0), f"nothing after {LIMIT:g} s"
    return np.sort(values)[::-1], counted.count, note


def eigsh_largest(problem: ufm.Problem, point: Params) -> Found:
    values, count, note = _largest_by_arpack(*_flat_product(problem, point))
    return Found(largest=values, products=count, note=note)


def eigsh_smallest(problem: ufm.Problem, point: Params) -> Found:
    """The largest of cI − H, c ≥ ‖H‖ from one eigenvalue at the other end, which is counted in."""
    size, matvec = _flat_product(problem, point)
    counted = _Counted(matvec)
    with threadpool_limits(1, user_api="blas"):
        operator = sparse.LinearOperator((size, size), matvec=counted, dtype=np.float64)
        start = np.random.default_rng(1).standard_normal(size)
        # An estimate of λ₁ is enough.
        (top,) = sparse.eigsh(operator, k=1, v0=start, tol=1e-2, return_eigenvectors=False)
    shift = 1.1 * abs(float(top))
    values, count, note = _largest_by_arpack(size, lambda x: shift * x.ravel() - matvec(x))
    return Found(smallest=shift - values, products=count + counted.count, note=note)


def lobpcg_smallest(problem: ufm.Problem, point: Params) -> Found:
    """SciPy's LOBPCG with no preconditioner, three spare vectors as ours, residual 1e-9 of ‖H‖."""
    size, matvec = _flat_product(problem, point)
    counted = _Counted(matvec)
    operator = sparse.LinearOperator(
        (size, size),
        matvec=counted,
        matmat=lambda X: np.stack([counted(x) for x in X.T], axis=1),
        dtype=np.float64,
    )
    start = np.random.default_rng(0).standard_normal((size, COUNT + 3))
    note = ""
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            values, _ = sparse.lobpcg(operator, start, largest=False, tol=2e-11, maxiter=500)
        except OutOfTime:
            values, note = np.zeros(0), f"nothing after {LIMIT:g} s"
    if said:
        note = f"warns: not all of its {COUNT + 3} vectors reach the tolerance"
    return Found(smallest=np.sort(values)[:COUNT], products=counted.count, note=note)


# matfree ------------------------------------------------------------------------------------------

#: Steps tried in turn, until the largest Ritz value is within 1e-9 of the last one.
STEPS = (6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64)
_compiled: dict[int, Callable[..., Any]] = {}


def _ritz_values(steps: int) -> Callable[..., Any]:
    """One compilation for every number of steps, as in a script that jits its loop."""
    if steps not in _compiled:
        lanczos = decomp.tridiag_sym(steps, reortho="full", custom_vjp=False)
        decompose = eig.eigh_partial(lanczos)

        def run(problem: ufm.Problem, point: Params, start: Any) -> Any:
            unravel = ravel_pytree(point)[1]

            def matvec(x: Any) -> Any:
                return ravel_pytree(ufm.hvp(problem, point, unravel(x)))[0]

            return decompose(matvec, start)[0]

        _compiled[steps] = jax.jit(run)
    return _compiled[steps]


def matfree_steps(problem: ufm.Problem, point: Params, truth: float) -> int:
    """The fewest of `STEPS` that reach λ₁ to 1e-9: given to the peer, and not timed."""
    for steps in STEPS:
        found = matfree_largest(steps)(problem, point).largest
        if len(found) and abs(found[0] - truth) <= 1e-9 * abs(truth):
            return steps
    return STEPS[-1]


def matfree_largest(steps: int) -> Runner:
    """Ritz values of matfree's Lanczos with full reorthogonalisation, descending."""

    def run(problem: ufm.Problem, point: Params) -> Found:
        size = ravel_pytree(point)[0].size
        start = jax.random.normal(jax.random.key(0), (size,), jnp.float64)
        values = np.sort(np.asarray(_ritz_values(steps)(problem, point, start)))[::-1]
        return Found(largest=values[:COUNT], products=steps)

    return run


# PyTorch ------------------------------------------------------------------------------------------


class _Model(torch.nn.Module):
    """Logits of the samples whose numbers it is given, as columns of H are learned features."""

    def __init__(self, point: Params) -> None:
        super().__init__()
        for name, x in (("W", point.W), ("H", point.H), ("b", point.b)):
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(np.asarray(x))))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        # The whole batch, in order, needs no gathering, whose derivative would cost a scatter.
        H = self.H if len(samples) == self.H.shape[1] else self.H[:, samples]
        return (self.W @ H).T + self.b


def _torch_parts(problem: ufm.Problem, point: Params) -> tuple[_Model, Any, Any, Any]:
    model = _Model(point)
    samples = torch.arange(problem.num_columns)
    labels = torch.tensor(problem.labels.astype(np.int64))
    decays = [float(x) for x in (problem.lam_w, problem.lam_h, problem.lam_b)]
    return model, samples, labels, decays


def curvlinops_operator(problem: ufm.Problem, point: Params) -> tuple[Any, Any]:
    """Its Hessian of the mean loss, and the diagonal of the decay, which it has no place for."""
    model, samples, labels, decays = _torch_parts(problem, point)
    leaves = list(model.parameters())
    operator = curvlinops.HessianLinearOperator(
        model, torch.nn.CrossEntropyLoss(), leaves, [(samples, labels)], check_deterministic=False
    )
    diagonal = np.concatenate(
        [np.full(x.numel(), lam) for x, lam in zip(leaves, decays, strict=True)]
    )
    return operator, diagonal


def curvlinops_largest(problem: ufm.Problem, point: Params) -> Found:
    operator, diagonal = curvlinops_operator(problem, point)
    of_loss = operator.to_scipy(np.float64)
    values, count, note = _largest_by_arpack(
        len(diagonal), lambda x: of_loss.matvec(x.ravel()) + diagonal * x.ravel()
    )
    return Found(largest=values, products=count, note=note)


@contextlib.contextmanager
def _torch_in_float64() -> Iterator[None]:
    """PyHessian draws its vectors in the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def pyhessian_of(problem: ufm.Problem, point: Params) -> Any:
    """Its object, which differentiates once and keeps the graph; decay is part of the criterion."""
    model, samples, labels, decays = _torch_parts(problem, point)

    def criterion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        decay = sum(
            0.5 * lam * (x**2).sum() for lam, x in zip(decays, model.parameters(), strict=True)
        )
        return torch.nn.functional.cross_entropy(logits, labels) + decay

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using backward.. with create_graph", UserWarning)
        return pyhessian.hessian(model, criterion, data=(samples, labels), cuda=False)


# The package exports a class under the name of the module.
_pyhessian = importlib.import_module("pyhessian.hessian")
pyhessian_product = _pyhessian.hessian_vector_product


def pyhessian_largest(tol: float, most: int) -> Runner:
    """Power iteration with deflation, to a relative change of `tol` or `most` steps for each."""

    def run(problem: ufm.Problem, point: Params) -> Found:
        counted, note = _Counted(pyhessian_product), ""
        torch.manual_seed(0)
        with (
            _torch_in_float64(),
            mock.patch.object(_pyhessian, "hessian_vector_product", counted),
        ):
            try:
                values, _ = pyhessian_of(problem, point).eigenvalues(most, tol, top_n=COUNT)
            except OutOfTime:
                values, note = [], f"nothing after {LIMIT:g} s"
        return Found(largest=np.sort(values)[::-1], products=counted.count, note=note)

    return run
