r"""The problem of class means, which bounds f from below for any number of samples.

With u_ki = √(c_i/n_k) on the columns of class k (`ufm.model.class_means`), HU has the columns
√n_k h̄_k. It lies in the hull of the set of the K-column problem with weights n_k: a mean of vectors
on a sphere or in a ball of radius r is in that ball, and ‖HU‖ ≤ ‖H‖ for budgets and decays. By
Jensen's inequality a convex loss does not rise, so that every lower bound for the K-column problem
over the hull holds for f. The bounds of `ufm.variants.norms.dual` are over the hull.
"""

from typing import Any

import numpy as np

from ufm.model.class_means import class_sizes, to_class_means
from ufm.model.problem import Params, Problem


def means_problem(problem: Problem, dim: int | None = None) -> Problem:
    """The K-column problem of the class means, in the same sets, in `dim` dimensions."""
    return Problem(
        loss=problem.loss,
        class_counts=(1,) * problem.num_classes,
        dim=problem.dim if dim is None else dim,
        lam_w=problem.lam_w,
        lam_h=problem.lam_h,
        lam_b=problem.lam_b,
        column_weights=class_sizes(problem),
        classifier=problem.classifier,
        features=problem.features,
        temperature=problem.temperature,
    )


def of_means(problem: Problem, params: Params) -> Params:
    """W, √n_k h̄_k and b: a point of the hull."""
    return Params(params.W, to_class_means(problem, params.H), params.b)


def on_host(params: Params) -> tuple[Any, Any, Any]:
    """W, H and b (or None) in double precision."""
    b = None if params.b is None else np.asarray(params.b, float)
    return np.asarray(params.W, float), np.asarray(params.H, float), b
