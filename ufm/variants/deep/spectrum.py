r"""All eigenvalues of ∇²f with hidden layers, over all factors.

If features are equal within classes, they are those of the K-column problem of class means, and of
λ_H I + W̃ᵀS_kW̃ on the deviations of class k, each ×(n_k − 1), with W̃ = W F_1 ⋯ F_L. Rotations of
every inner space leave f as it is: F_l ↦ F_l Q, F_{l+1} ↦ Qᵀ F_{l+1}.

>>> deep = Problem.balanced(loss=problem.loss, num_classes=4, per_class=10, dim=4, lam_w=5e-3,
...                         lam_h=5e-3, lam_b=None, lam_hidden=(5e-3,))
>>> found = spectrum(deep)
>>> found.negative, found.dimension, found.labels[-1]
(0, 192, 'class means')
"""

import itertools

import numpy as np
from jaxtyping import Float

from ufm._support.rank import numerical_rank
from ufm.hessian.confined import Parts, by_parts, deviation_parts
from ufm.hessian.products.dense import rounding
from ufm.hessian.spectrum_result import Part
from ufm.hessian.symmetry_zeros import shift_is_free
from ufm.model.class_means import deviations, to_class_means
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.curvature import third_derivative
from ufm.variants.deep.factors import factors_of, of_class_means, with_factors
from ufm.variants.deep.hessian import dense, deviation_eigenvalues, eigenvalues, flat
from ufm.variants.deep.minimum import deep_global_minimum


@by_parts
def deep_spectrum(problem: Problem, params: Params | None, collapsed: bool) -> Parts:
    """`ufm.spectrum` with hidden layers, over all factors."""
    note, moved, here = "", 0.0, problem
    if params is None:
        minimum = deep_global_minimum(problem)
        params, note = minimum.params(None), minimum.place
    point = params
    if collapsed:
        moved = float(np.linalg.norm(deviations(problem, params.H)))
        here, means = of_class_means(problem), to_class_means(problem, params.H)
        point = with_factors((params.W, *params.hidden, means), params.b)
    A = dense(here, point)
    values = eigenvalues(A)
    noise = rounding(values) + (moved * third_derivative(problem, params) if moved > 0 else 0.0)
    parts = [Part("class means" if collapsed else "", values, 1, noise)]
    if collapsed:
        parts += deviation_parts(problem, deviation_eigenvalues(here, point), noise)
    turns = _rotations(point)
    residual = float(np.linalg.norm(A @ turns.T, 2)) if len(turns) else 0.0
    orbit = (len(turns) + int(shift_is_free(problem)), residual)
    return Parts(parts, orbit, note)


def _rotations(point: Params) -> Float[np.ndarray, "t P"]:
    """An orthonormal basis of (…, F_l Ω, ΩᵀF_{l+1}, …), Ωᵀ = −Ω, for all inner spaces."""
    factors = [np.asarray(F) for F in factors_of(point)]
    found = [np.zeros((0, flat(point).size))]
    for place, (left, right) in enumerate(itertools.pairwise(factors)):
        for i, j in itertools.combinations(range(left.shape[1]), 2):
            moves = [np.zeros_like(F) for F in factors]
            moves[place][:, j], moves[place][:, i] = left[:, i], -left[:, j]
            moves[place + 1][i], moves[place + 1][j] = -right[j], right[i]
            b = None if point.b is None else np.zeros_like(point.b)
            found.append(flat(with_factors(moves, b))[None, :])
    tangents = np.concatenate(found)
    _, sizes, basis = np.linalg.svd(tangents, full_matrices=False)
    return basis[: numerical_rank(sizes)]
