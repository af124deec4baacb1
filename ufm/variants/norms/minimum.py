r"""The global minimum on norm sets: closed form (balanced classes, MSE), else a run and its proof.

For other counts or losses the K-column problem of the class means is solved in at most 2K
dimensions, the most that W and the class means use, from several starts, until one is certified.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import pytree
from ufm._support.rank import numerical_rank
from ufm.certificates.certificate import Certificate, Verdict, certify
from ufm.collapse.metrics import orthonormal_columns, simplex_basis
from ufm.minimum.minimiser import GlobalMinimum, infimum_of, nothing_known, point_of
from ufm.model.class_means import class_sizes
from ufm.model.constraints import Ball, Budget, Sphere
from ufm.model.problem import Params, Problem
from ufm.model.problem_batch import problem_batch
from ufm.solvers import solve
from ufm.variants.norms.closed_form import Balanced, balanced_minimum, bound_of
from ufm.variants.norms.means import means_problem, on_host
from ufm.variants.norms.squared_error import Aligned, squared_error_minimum
from ufm.variants.norms.start import feasible_start

#: Runs of the K-column problem, and the largest K²d of one: half a minute.
_TRIES, _LARGEST = 4, 1e6
#: Gradient norm at the end of those runs, from which gaps of about this size follow.
_ACCURACY = 1e-12


@pytree()
class NormMinimum(GlobalMinimum):
    """A global minimum on norm sets: `W` (K, r) and class features `means` (r, K) of one minimiser.

    `logits` are W h̄_k before the division by the temperature, with ρ and τ of Z = ρP + (τ/K)11ᵀ.
    `tied` says that the minimisers are not one up to rotation.
    """

    W: Float[np.ndarray, "K r"] = None  # pyright: ignore[reportAssignmentType]  # always given
    means: Float[np.ndarray, "r m"] = None  # pyright: ignore[reportAssignmentType]  # always given

    @property
    def kind(self) -> str:
        """Name the geometry: simplex ETF, orthogonal frame, imbalanced, by computation, unknown."""
        if not self.is_exact:
            return "unknown"
        if self.tied:
            return "not unique"
        if not np.isnan(self.rho):
            return super().kind
        return "imbalanced" if self.problem.per_class is None else "by computation"

    def params(self, key: Key[Array, ""] | None, dtype: Any = None) -> Params:
        """Build W, H, b with f = `value`; see `GlobalMinimum.params`."""
        if not np.isfinite(self.value):
            raise ValueError(f"no minimiser is known: {self.reason}")
        problem, rank = self.problem, self.W.shape[1]
        turn = np.eye(problem.dim, rank)
        if key is not None:
            turn = np.asarray(orthonormal_columns(key, problem.dim, rank))
        columns = (turn @ self.means) * np.sqrt(np.asarray(class_sizes(problem)))
        return point_of(problem, self.W @ turn.T, columns, self.bias, dtype)


def global_minimum(problem: Problem) -> GlobalMinimum:
    """`ufm.global_minimum` on norm sets."""
    if problem_batch(problem) is not None:
        raise ValueError("the problem is a batch: call global_minimum once for each of its entries")
    closed, aligned = balanced_minimum(problem), squared_error_minimum(problem)
    found = None if closed is None else _symmetric(problem, closed)
    if aligned is not None:
        found = _orthogonal(problem, aligned)
    return found or computed(problem)


def _orthogonal(problem: Problem, found: Aligned) -> NormMinimum:
    """Orthogonal rows of W, with the features of each class along its row."""
    W, H = np.diag(found.size_w), np.diag(found.size_h)
    alike = np.ptp(found.size_w) == np.ptp(found.size_h) == 0.0
    size = float(found.size_w[0] * found.size_h[0]) if alike else np.nan
    return NormMinimum(
        value=found.value,
        lower_bound=found.value - found.rounding,
        is_exact=True,
        logits=W @ H,
        bias=None,
        rank=len(W),
        problem=problem,
        rho=size,
        tau=size,
        reason="closed form: no margin exceeds the product of norms",
        W=W,
        means=H,
    )


def _symmetric(problem: Problem, found: Balanced) -> NormMinimum | None:
    """The simplex ETF with the margin of the closed form; None if d or the sets exclude it."""
    K, spheres = problem.num_classes, _on_spheres(problem)
    if problem.dim < K - 1 + (not found.is_tight and spheres):
        return None
    frame = simplex_basis(K) * (K / (K - 1)) ** 0.5
    W, H = found.size_w * frame, found.size_h * frame.T
    why = "closed form for balanced classes, proven by its tangent"
    if not found.is_tight:
        tau = 1.0 if problem.temperature is None else float(problem.temperature)
        share = found.margin * tau * (K - 1) / (K * found.size_w * found.size_h)
        why += "; the norms allow more than the best margin: minimisers are not unique"
        if spheres:  # the rest of each w_k is the same vector, orthogonal to all features
            rest = np.full((K, 1), found.size_w * (1.0 - share**2) ** 0.5)
            W, H = np.hstack([share * W, rest]), np.vstack([H, np.zeros((1, K))])
        elif isinstance(problem.classifier, Ball | Budget):
            W = share * W
        else:
            H = share * H
    rho = float((W @ H)[0, 0]) * K / (K - 1)
    return NormMinimum(
        value=found.value,
        lower_bound=bound_of(problem, found),
        is_exact=True,
        logits=W @ H,
        bias=np.zeros(K) if problem.has_bias else None,
        rank=W.shape[1],
        problem=problem,
        rho=rho,
        tau=0.0,
        bias_level=0.0 if problem.has_bias else np.nan,
        reason=why,
        tied=not found.is_tight,
        W=W,
        means=H,
    )


def _on_spheres(problem: Problem) -> bool:
    """Whether no factor can be made shorter."""
    return isinstance(problem.classifier, Sphere) and isinstance(problem.features, Sphere)


def computed(problem: Problem) -> GlobalMinimum:
    """The best of some runs on the class means; exact if one is certified."""
    dim = min(problem.dim, problem.num_outputs + problem.num_classes)
    bound = bound_of(problem, balanced_minimum(problem))
    if problem.num_outputs * problem.num_classes * dim > _LARGEST:
        why = f"not computed: {problem.num_classes} classes in {dim} dimensions would take minutes"
        return nothing_known(problem, why, max(bound, infimum_of(problem)))
    run = best_run(problem, dim)
    _, sizes, axes = np.linalg.svd(np.vstack([run.W, run.means.T]), full_matrices=False)
    axes = axes[: numerical_rank(sizes)]
    fields = run.fields(problem, bound)
    return NormMinimum(**fields, rank=len(axes), W=run.W @ axes.T, means=axes @ run.means)


class Run(NamedTuple):
    """The end of a run on the class means, and its certificate."""

    value: float
    W: Float[np.ndarray, "K d"]
    means: Float[np.ndarray, "d m"]
    bias: Float[np.ndarray, " K"] | None
    proof: Certificate

    def fields(self, problem: Problem, known: float) -> dict[str, Any]:
        """What a `GlobalMinimum` says of it, with a lower bound that is `known`, or −∞."""
        exact = self.proof.verdict is Verdict.GLOBAL_MINIMUM
        why = f"best of {_TRIES} runs on the class means, not certified: {self.proof.explain()}"
        return {
            "value": self.value,
            "lower_bound": max(float(self.proof.lower_bound), known),
            "is_exact": exact,
            "logits": self.W @ self.means,
            "bias": self.bias,
            "problem": problem,
            "reason": "reduced problem, certified by duality" if exact else why,
        }


def best_run(problem: Problem, dim: int) -> Run:
    """The run on the class means that is certified, or else that with the lowest value."""
    small = means_problem(problem, dim)
    if small.num_outputs * small.num_classes * dim > _LARGEST:
        raise ValueError(
            f"global_minimum would take minutes with {small.num_classes} classes in {dim} "
            "dimensions: use ufm.solve and ufm.certify"
        )
    best, proof = None, None
    for i in range(_TRIES):
        run = solve(small, feasible_start(small, jax.random.key(i)), tol=_ACCURACY)
        if best is None or float(run.value) < float(best.value):
            best, proof = run, certify(small, run.params)
            if proof.verdict is Verdict.GLOBAL_MINIMUM:
                break
    assert best is not None
    assert proof is not None
    W, H, bias = on_host(best.params)
    means = H / np.sqrt(np.asarray(small.column_weights))
    return Run(float(best.value), W, means, bias, proof)
