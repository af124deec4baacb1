"""Supervised contrastive problems as text: supcon, or supcon:TAU with the temperature.

>>> list(contrastive_problems(["supcon:0.1"], (5, 5, 5), 4, None))
['supcon:0.1']
"""

from collections.abc import Iterable

from ufm.model.constraints import NonNegative
from ufm.model.problem import Problem
from ufm.variants.contrastive.problem import ContrastiveProblem


def contrastive_problems(
    texts: Iterable[str], counts: tuple[int, ...], dim: int, features: str | None
) -> dict[str, Problem]:
    """The problems by canonical text; `features` is None or "nonnegative".

    Raises `ValueError` for a text that is wrong or repeated, or for other sets of features.
    """
    if features not in (None, "sphere", "sphere:1", "nonnegative"):
        raise ValueError(
            f"features of supcon are on the unit sphere, or its part nonnegative, got {features!r}"
        )
    confined = NonNegative() if features == "nonnegative" else None
    found: dict[str, Problem] = {}
    for text in texts:
        number = text.partition(":")[2] or "0.5"
        try:
            temperature = float(number)
        except ValueError:
            raise ValueError(f"{text!r}: {number!r} is not a temperature") from None
        canonical = f"supcon:{temperature!r}"
        if canonical in found:
            raise ValueError(f"`losses` names a loss twice: {canonical}")
        found[canonical] = ContrastiveProblem(counts, dim, temperature, features=confined)
    return found
