r"""All eigenvalues on the tangent space, with the part of the problem that each comes from.

If features are equal within classes, the Hessian with multipliers splits as in
`ufm.hessian.structured.collapsed`: the K-column problem of the class means; M in unused dimensions;
and deviations from the mean of class k,

    (λ_H + β_k) I + WᵀS_kW/τ²,   each ×(n_k − 1),

with the multiplier β_k and S_k the Hessian of the loss over the number of samples, on vectors
orthogonal to h_k where its bound is active.

>>> on_spheres = Problem(loss=CrossEntropy(), class_counts=(5, 5, 5), dim=3, lam_w=None, lam_h=None,
...                      lam_b=None, classifier=Sphere(), features=Sphere())
>>> found = spectrum(on_spheres)
>>> found.dimension, found.negative, found.zero, found.gauge_dimension
(36, 0, 3, 3)
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ufm._support.rank import numerical_rank
from ufm.hessian.confined import Parts, by_parts, deviation_parts
from ufm.hessian.products.columns import host_point
from ufm.hessian.products.dense import rounding
from ufm.hessian.spectrum_result import Part
from ufm.hessian.symmetry_zeros import orbit_dimension
from ufm.minimum.global_minimum import global_minimum
from ufm.model.class_means import deviations
from ufm.model.constraints import Fixed
from ufm.model.params import Params, norm
from ufm.model.problem import Problem
from ufm.variants.norms.certificate import check_feasible, third_derivative
from ufm.variants.norms.curvature import split_eigenvalues
from ufm.variants.norms.geometry import Local, local_point, projected
from ufm.variants.norms.means import means_problem, of_means


@by_parts
def spectrum(problem: Problem, params: Params | None, collapsed: bool) -> Parts:
    """`ufm.spectrum` on norm sets; `dimension` is that of the tangent space."""
    small, note, moved = means_problem(problem), "", 0.0
    here = small if collapsed else problem
    if params is None:
        minimum = global_minimum(problem)
        note = minimum.place
        point = dataclasses.replace(minimum, problem=here).params(jax.random.key(0))
    else:
        check_feasible(problem, params)
        point = projected(problem, params)
        if collapsed:  # to the means, and as far again to their nearest feasible ones
            moved = 2.0 * float(np.linalg.norm(np.asarray(deviations(problem, point.H))))
            point = projected(small, of_means(problem, point))
    _, gradient, local = local_point(here, point)
    inside, outside, copies = split_eigenvalues(here, point)
    values = np.concatenate([inside, outside])
    noise = rounding(values) + moved * _change(here, point, gradient, local, values)
    parts = [Part("class means" if collapsed else "", inside, 1, noise)]
    parts.append(Part("outside the row space", outside, copies, noise))
    if collapsed:
        parts += deviation_parts(problem, _blocks(small, point, local), noise)
    return Parts(parts, _orbit(here, point, gradient), note)


def _blocks(small: Problem, means: Params, local: Local) -> Iterator[np.ndarray]:
    """The eigenvalues of deviations from each class mean."""
    at, k = host_point(small, means), 0
    beta = np.broadcast_to(np.asarray(local.beta)[0], at.H.shape[1])
    active = np.asarray(local.active[1])
    for S, _, _, roots in at.columns():
        for each, root in zip(S, roots, strict=True):
            block = at.W.T @ (each * root**2) @ at.W + (at.decays[1] + beta[k]) * np.eye(small.dim)
            if active.shape[1] > 1 and active[0, k]:  # a bound for each vector
                basis = np.linalg.svd(at.H[:, [k]])[0][:, 1:]
                block = basis.T @ block @ basis
            yield np.linalg.eigvalsh(block)
            k += 1


def _change(
    small: Problem, means: Params, gradient: Params, local: Local, values: np.ndarray
) -> float:
    """How much the projected Hessian changes for each unit of a step, estimated from above.

    ∇²f changes by its third derivative, projections and multipliers by curvatures, multipliers and
    gradients over the length of the vectors.
    """
    root = np.sqrt(np.asarray(small.samples(means.H.dtype)))
    length = float(np.min(np.linalg.norm(np.asarray(means.H), axis=0) / root))
    multipliers = max(float(jnp.max(jnp.abs(x))) for x in (local.a, local.beta))
    bend = float(np.max(np.abs(values))) + multipliers + float(norm(gradient))
    return float(third_derivative(small, means)) + 4.0 * bend / max(length, 1e-300)


def _orbit(problem: Problem, params: Params, gradient: Params) -> tuple[int, float]:
    """The dimension of the orbit under rotations, and a bound on the Hessian along it.

    With a given W they turn its null space alone.
    """
    stacked = np.vstack([np.asarray(params.W), np.asarray(params.H).T])
    slope = np.vstack([np.asarray(gradient.W), np.asarray(gradient.H).T])
    dim = problem.dim
    if isinstance(problem.classifier, Fixed):
        _, sizes, axes = np.linalg.svd(np.asarray(params.W))
        null = axes[numerical_rank(sizes) :]
        dim, stacked = len(null), stacked @ null.T
    sizes = np.linalg.svd(stacked, compute_uv=False) if dim else np.zeros(1)
    rank = numerical_rank(sizes)
    residual = 2**0.5 * float(np.linalg.norm(slope, 2)) / float(sizes[rank - 1]) if rank else 0.0
    return orbit_dimension(problem, rank, dim), residual
