r"""Compare a point with the predicted minimiser with H ≥ 0, by uncentred class means, too.

Logits, WWᵀ and penalties are those of `ufm.minimum.geometry_match`; beside them,

    ‖H̄ᵀH̄ − H̄*ᵀH̄*‖_F / max of the two norms,   H̄ with columns √n_k h̄_k,

which splitting and exchanging coordinates leave as they are. W, the logits and NC1–NC3 of an
orthogonal frame are those of a simplex ETF up to scale; this matrix is diagonal for the one alone.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from ufm._support.pytree import pytree
from ufm.minimum.geometry_match import GeometryMatch, match_with
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.class_means import to_class_means
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.variants.nonnegative.minimum import cone_minimum


@pytree()
class NonNegativeMatch(GeometryMatch):
    """`feature_distance` compares Gram matrices of class means; NaN if the minimiser is 0."""

    feature_distance: float = float("nan")

    _printed = (
        *("matches", "kind", "logit_distance", "classifier_distance", "feature_distance"),
        "penalty_distance",
    )


def cone_match(
    problem: Problem, params: Params, minimum: GlobalMinimum | None = None, tol: float = 1e-3
) -> NonNegativeMatch:
    """`ufm.compare_geometry` with H ≥ 0."""
    check_shapes(problem, params)
    minimum = minimum or cone_minimum(problem)
    plain = match_with(problem, params, minimum, tol)
    fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
    if minimum.kind in ("unknown", "origin"):
        return NonNegativeMatch(**fields)
    found, target = (_gram(problem, x) for x in (params, minimum.params(None, params.W.dtype)))
    size = max(np.linalg.norm(found), np.linalg.norm(target))
    distance = float(np.linalg.norm(found - target) / size)
    if plain.matches is not None:
        fields["matches"] = plain.matches and distance <= tol
    return NonNegativeMatch(**fields, feature_distance=distance)


def _gram(problem: Problem, params: Params) -> Float[np.ndarray, "m m"]:
    means = np.asarray(to_class_means(problem, params.H), float)
    return means.T @ means
