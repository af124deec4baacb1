"""The complete spectrum at a point that is zero beyond its first dimensions.

The point need not be collapsed or critical: dimensions in which W and the features are zero
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
    """All eigenvalues of ∇²f for `problem` at a point of `small`, which has fewer dimensions."""
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
