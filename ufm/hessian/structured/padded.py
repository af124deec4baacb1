"""The whole spectrum at a point that is zero beyond its first dimensions, from those alone.

The point need not be collapsed, nor critical: dimensions that neither W nor the features use
decouple (`ufm.hessian.structured.complement`).
"""

import numpy as np

from ufm.hessian.products.columns import host_point
from ufm.hessian.products.dense import dense_hessian, rounding
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.structured.complement import complement_parts
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.params import Params
from ufm.model.problem import Problem


def padded_spectrum(problem: Problem, small: Problem, point: Params) -> Spectrum:
    """All eigenvalues of ∇²f of `problem` at a point of `small`, the same in fewer dimensions."""
    values = np.linalg.eigvalsh(dense_hessian(small, point))
    at = host_point(small, point)
    sizes = np.linalg.svd(at.feature_gradient(), compute_uv=False)
    noise = rounding(values)
    return assemble(
        [
            Part("inside the row space", values, 1, noise),
            *complement_parts(problem, sizes, small.dim, noise),
        ],
        problem=problem,
        gauge=gauge(problem, point, at.gradient()),
        method="dense",
    )
