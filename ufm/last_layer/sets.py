"""The sets of a trained layer's factors: features after a ReLU, a head that normalises.

`features` and `classifier` say how an array is stored, in which set its vectors lie, or both:

    rows   columns   nonnegative   sphere   sphere:RADIUS   ball:RADIUS   budget:MEAN_SQUARE

A head that normalises, with logits w_kᵀh/(‖w_k‖ ‖h‖ τ), is stored with raw weights and features:
they are moved to the nearest point of their set, on a sphere by a division by their norms.

>>> layout_and_set("features", "columns,sphere:2"), layout_and_set("classifier", "rows")
(('columns', 'sphere:2'), ('rows', None))
"""

import numpy as np
from jaxtyping import Float

from ufm.last_layer.arrays import Layout
from ufm.model.constraint_text import make_constraint
from ufm.model.constraints import Constraint, NonNegative, Sphere
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.norms.geometry import projected

_LAYOUTS: dict[str, Layout] = {"rows": "rows", "columns": "columns"}
_SETS = ("nonnegative", "sphere", "ball", "budget")


def layout_and_set(factor: str, given: str | None) -> tuple[Layout | None, str | None]:
    """The layout of an array and the set of its vectors in a text, each None if it is not there.

    Raises `ValueError`, naming the factor, for other texts.
    """
    layout, of_set = None, None
    for word in [] if given is None else given.split(","):
        if word in _LAYOUTS and layout is None:
            layout = _LAYOUTS[word]
        elif word.partition(":")[0] in _SETS and of_set is None:
            of_set = word
        else:
            raise ValueError(
                f"`{factor}` must be 'rows' or 'columns', a set ({', '.join(_SETS)}), or both with "
                f"a comma, got {given!r}"
            )
    return layout, of_set


def sets_of(
    classifier: str | None, features: str | None, classes: int, dim: int
) -> dict[str, Constraint]:
    """The sets by factor. Raises `ValueError`, naming the factor, if a set does not fit."""
    sets = {}
    for factor, text in (("classifier", classifier), ("features", features)):
        if text is not None:
            sets[factor] = make_constraint(factor, text, classes, dim)
            sets[factor].check(factor, classes, dim)
    return sets


def into_sets(problem: Problem, params: Params) -> tuple[Params, list[str]]:
    """The point of the sets that raw weights and features stand for, with notes.

    Raises `ValueError` for negative features in the set of those that are not, and for a vector
    without a direction on a sphere.
    """
    if isinstance(problem.features, NonNegative):
        _check_nonnegative(np.asarray(params.H))
        return params, []
    notes = []
    roots = np.sqrt(np.asarray(problem.samples(params.H.dtype)))
    norms = {
        "classifier": np.linalg.norm(np.asarray(params.W), axis=1),
        "features": np.linalg.norm(np.asarray(params.H), axis=0) / roots,
    }
    for factor, of_set in problem.constraints.items():
        sizes, what = norms[factor], {"classifier": "W", "features": "H"}[factor]
        if isinstance(of_set, Sphere) and not np.all(sizes > 0):
            count = int(np.sum(sizes == 0))
            raise ValueError(
                f"{what} has {count} vectors of norm 0, which have no direction on a sphere: leave "
                f"`{factor}` {of_set.label()} out, or these samples"
            )
        notes.append(
            f"{what} is projected on {of_set.label()}: its vectors had norms of {sizes.min():.6g} "
            f"to {sizes.max():.6g}, root mean square {np.mean(sizes**2) ** 0.5:.6g} (`{factor}`)"
        )
    return projected(problem, params), notes


def _check_nonnegative(H: Float[np.ndarray, "d N"]) -> None:
    negative = int(np.sum(H < 0))
    if negative:
        raise ValueError(
            f"H has {negative} of {H.size} entries below 0, the least {H.min():.3g}: these are not "
            "features after a ReLU, leave `features` nonnegative out"
        )
