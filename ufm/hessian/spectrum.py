"""The spectrum of the Hessian at a point, by the best method for the structure of the point.

For the minimum and the origin no point is needed: see `ufm.spectra.at_points`.

| method | points | result |
|---|---|---|
| closed_form | the neural-collapse minimum or the origin, balanced classes | all eigenvalues |
| collapsed | features equal within classes, any class counts | all, if 2Kr + K ≤ 10,000 |
| dense | any point, up to 10,000 dimensions | all eigenvalues |
| lanczos | any point | both ends, and exact counts of signs |
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm.hessian.counts.inertia import with_counts
from ufm.hessian.krylov.extremal import extremal_eigenpairs
from ufm.hessian.products.columns import check_point
from ufm.hessian.products.dense import dense_spectrum
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.structured.closed_form import (
    PLACES,
    closed_form_spectrum,
    gram_matrices,
    has_frame,
)
from ufm.hessian.structured.collapsed import COLLAPSED, collapse_deviation, collapsed_spectrum
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.class_means import to_class_means
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params
from ufm.model.problem import Problem

METHODS = ("auto", "closed_form", "collapsed", "dense", "lanczos")
#: Largest dimension for which `auto` chooses `dense`: about ten seconds.
_UNASKED = 3_000


def spectrum_of(
    problem: Problem,
    params: Params,
    method: str = "auto",
    *,
    cluster_tol: float | None = None,
    count: int = 6,
    key: Key[Array, ""] | None = None,
) -> Spectrum:
    """Eigenvalues of ∇²f at a point, with multiplicities; see the module for the methods."""
    check_point(problem, params)
    if method == "auto":
        small = problem.num_parameters <= _UNASKED
        collapsed = collapse_deviation(problem, params) <= COLLAPSED
        method = "collapsed" if collapsed else "dense" if small else "lanczos"
    if method == "closed_form":
        return closed_form_spectrum(problem, _place_of(problem, params), cluster_tol)
    if method == "collapsed":
        return collapsed_spectrum(problem, params, cluster_tol)
    if method == "dense":
        return dense_spectrum(problem, params, cluster_tol)
    return _lanczos(problem, params, count, jax.random.key(0) if key is None else key, cluster_tol)


def _place_of(problem: Problem, params: Params) -> str:
    """Find the closed form of this point by its inner products."""
    if collapse_deviation(problem, params) <= COLLAPSED:
        means = np.asarray(to_class_means(problem, params.H))
        X = np.vstack([np.asarray(params.W), means.T])
        bias = 0.0 if params.b is None else np.asarray(params.b)
        for place in PLACES:
            if place == "frame" and not has_frame(problem):
                continue
            gram, level = gram_matrices(problem, place)
            size = max(float(np.linalg.norm(gram)), 1.0)
            near = np.linalg.norm(X @ X.T - gram) <= COLLAPSED * size
            if near and np.all(np.abs(bias - level) <= COLLAPSED * (1.0 + abs(level))):
                return place
    raise ValueError(
        "the point is not the symmetric minimum, the origin or the frame, which have a closed "
        "form: use method='collapsed', 'dense' or 'lanczos'"
    )


def _lanczos(
    problem: Problem,
    params: Params,
    count: int,
    key: Key[Array, ""],
    cluster_tol: float | None,
) -> Spectrum:
    """Both ends, the zeros forced by symmetry, and the numbers of eigenvalues of each sign."""
    _, gradient = value_and_gradient(problem, params)
    parts, finished = [], True
    for end in ("smallest", "largest"):
        pairs = extremal_eigenpairs(problem, params, key, count=count, end=end)
        finished &= pairs.converged
        parts += [
            Part(f"{end} end", np.array([value]), 1, float(residual))
            for value, residual in zip(pairs.values, pairs.residuals, strict=True)
        ]
        deflated = Part("0 by symmetry", np.zeros(1), pairs.deflated, 0.0)
    found = assemble(
        [deflated, *parts],
        problem=problem,
        gauge=gauge(problem, params, gradient),
        method="lanczos",
        cluster_tol=cluster_tol,
        note=("" if finished else "NOT CONVERGED, see the residuals; ")
        + f"the {count} smallest and largest eigenvalues; multiplicities are lower bounds",
    )
    found = dataclasses.replace(found, complete=False, converged=finished)
    return with_counts(found, problem, params)
