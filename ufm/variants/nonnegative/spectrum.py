r"""All eigenvalues on the free variables: W, b and the entries of H that no bound holds.

If features are equal within classes, they are those of the K-column problem of class means, and of
λ_H I + WᵀS_kW on the coordinates of class k, each ×(n_k − 1), as in
`ufm.hessian.structured.collapsed`. A minimiser determines its coordinates up to splitting them: the
spectrum at the minimum is that with one for each ray. An unused coordinate has a free column of W,
with the eigenvalue λ_W, and its row of H is held.

>>> found = spectrum(dataclasses.replace(problem, features=NonNegative()))
>>> found.negative, found.zero, found.labels[-1]
(0, 0, 'class means')
"""

import dataclasses

import numpy as np

from ufm.hessian import dense_hessian, nearest_means
from ufm.hessian.confined import Parts, by_parts, deviation_parts
from ufm.hessian.products.columns import host_point
from ufm.hessian.products.dense import rounding
from ufm.hessian.spectrum_result import Part
from ufm.hessian.symmetry_zeros import shift_is_free
from ufm.model.class_means import reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.nonnegative.free_hessian import kept_variables
from ufm.variants.nonnegative.minimum import cone_minimum
from ufm.variants.nonnegative.second_order import deviation_eigenvalues, orbit_tangents


@by_parts
def cone_spectrum(problem: Problem, params: Params | None, collapsed: bool) -> Parts:
    """`ufm.spectrum` with H ≥ 0; `dimension` is the number of free variables."""
    note, shift = "", 0.0
    plain = dataclasses.replace(problem, features=None)
    here = reduced_problem(problem, problem.dim) if collapsed else plain
    if params is None:
        minimum = cone_minimum(problem)
        point = dataclasses.replace(minimum, problem=here).params(None)
        note = minimum.place
    else:
        point, shift = nearest_means(plain, params) if collapsed else (params, 0.0)
    kept, free = kept_variables(here, point)
    A = dense_hessian(here, point)[np.ix_(kept, kept)]
    tangents = orbit_tangents(point, np.asarray(point.H) <= 0)
    tangents = np.pad(tangents, ((0, 0), (0, len(kept) - tangents.shape[1])))[:, kept]
    residual = float(np.linalg.norm(A @ tangents.T, 2)) if len(tangents) else 0.0
    values = np.linalg.eigvalsh(A)
    noise = rounding(values) + shift
    parts = [Part("class means" if collapsed else "", values, 1, noise)]
    if collapsed:
        blocks = deviation_eigenvalues(host_point(here, point), ~free)
        parts += deviation_parts(problem, blocks, noise)
    orbit = (len(tangents) + int(shift_is_free(problem)), residual)
    return Parts(parts, orbit, note)
