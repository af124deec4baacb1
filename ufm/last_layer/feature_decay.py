r"""The decay of the features: λ_H = λ_W ‖W‖²/‖H‖², as given and for centred features."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from ufm.model.problem import Problem


def inferred_decay(lam_w: float, W: np.ndarray, H: np.ndarray) -> float:
    """λ_H = λ_W ‖W‖²/‖H‖², which holds at every critical point. Raises `ValueError` for H = 0."""
    size_w, size_h = float(np.linalg.norm(W)), float(np.linalg.norm(H))
    if not size_h > 0:
        what = "so small that its squares are zero" if np.any(H) else "zero"
        raise ValueError(f"H is {what}, so that lam_h cannot be inferred: give `lam_h`")
    return float(lam_w) * (size_w / size_h) ** 2


def inferred_note(lam_h: float) -> str:
    """The note on an inferred decay."""
    return (
        f"lam_h = {lam_h:.6g} is inferred as lam_w |W|^2 / |H|^2: the verdict concerns the "
        "problem with this decay (`lam_h`)"
    )


def centred_problem(
    layer: Any, W: Float[np.ndarray, "K d"], size: float, left: float, moved: float
) -> tuple[Problem, tuple[str, ...]] | None:
    """The problem with a free bias of which the centred layer is a point, and its notes.

    None if the mean adds less to ‖H‖² than rounding does, or if all features are equal.

    Args:
        layer: The layer as given, with `problem`, `notes` and `lam_h_inferred`.
        W: Its classifier.
        size: ‖H‖².
        left: ‖H̃‖².
        moved: N‖h̄‖².
    """
    problem, eps = layer.problem, float(np.finfo(W.dtype).eps)
    if not (moved > eps * size and left > eps * size):
        return None
    lam_h = float(problem.lam_h)
    notes = [note for note in layer.notes if note != inferred_note(lam_h)]
    own = "" if problem.has_bias else ", which the layer does not have"
    said = (
        f"the mean of the features, {100 * moved / size:.3g} % of |H|^2, is moved into the bias"
        f"{own}: no logit changes, and the verdict concerns this point"
    )
    if layer.lam_h_inferred:
        # Of H̃ only the norm matters.
        lam_h = inferred_decay(float(problem.lam_w), W, np.sqrt([left]))
        notes.insert(0, inferred_note(lam_h))
    if problem.lam_b is not None and float(problem.lam_b) == 0 and not layer.lam_h_inferred:
        said += f" of the layer's own problem, where f is lower by {0.5 * lam_h * moved:.3g}"
    else:
        said += " of the problem with a free bias (lam_b = 0)"
    return dataclasses.replace(problem, lam_b=0.0, lam_h=lam_h), (said, *notes)
