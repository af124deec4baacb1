"""Sets of a factor as text, in files and flags.

    nonnegative   sphere   sphere:RADIUS   ball:RADIUS   budget:MEAN_SQUARE   etf   etf:NORM

`etf` is a fixed classifier whose rows are a simplex ETF, of norm 1 unless given.

>>> make_constraint("classifier", "sphere:2", num_outputs=10, dim=16)
Sphere
  radius  2
>>> confines("etf", "classifier"), confines("nonnegative", "features")
(True, False)
"""

import numpy as np

from ufm.model.constraints import Ball, Budget, Constraint, Fixed, NonNegative, Sphere
from ufm.model.frames import simplex_basis

_SETS: dict[str, type[Constraint]] = {
    "nonnegative": NonNegative,
    "sphere": Sphere,
    "ball": Ball,
    "budget": Budget,
    "etf": Fixed,
}
#: The sets whose number has no default, with the name of the number.
_NEEDS = {"ball": "RADIUS", "budget": "MEAN_SQUARE"}
SETS = "nonnegative, sphere, sphere:RADIUS, ball:RADIUS, budget:MEAN_SQUARE, etf, etf:NORM"


def make_constraint(factor: str, text: str, num_outputs: int, dim: int) -> Constraint:
    """The set that `text` names for a factor. Raises `ValueError`, naming the factor."""
    name, numbers = _read(factor, text)
    if name == "etf":
        return Fixed(_simplex_rows(num_outputs, dim, *numbers))
    return _SETS[name](*numbers)


def confines(text: str, factor: str) -> bool:
    """Whether the set confines the norm, so that the factor has no decay. As `make_constraint`."""
    return not _SETS[_read(factor, text)[0]].decayed


def size_in(factor: str, text: str) -> tuple[str, float | None]:
    """The kind and the number of a set, None without one. As `make_constraint`.

    >>> size_in("features", "sphere"), size_in("features", "nonnegative")
    (('sphere', 1.0), ('nonnegative', None))
    """
    name, numbers = _read(factor, text)
    return name, numbers[0] if numbers else None if name == "nonnegative" else 1.0


def constraint_text(factor: str, given: Constraint | None) -> str | None:
    """The text of a set. Raises `ValueError` for a fixed classifier that is not that of `etf`."""
    if given is None:
        return None
    if isinstance(given, Fixed):
        return _frame_text(np.asarray(given.matrix, float))
    name = next(name for name, kind in _SETS.items() if type(given) is kind)
    numbers = [float(value) for value in vars(given).values()]
    if name == "sphere" and numbers == [1.0]:
        return name
    return ":".join([name, *map(repr, numbers)])


def _frame_text(matrix: np.ndarray) -> str:
    norm = float(f"{np.linalg.norm(matrix[0]):.12g}")
    outputs, dim = matrix.shape
    if dim < outputs - 1 or not np.allclose(
        matrix, _simplex_rows(outputs, dim, norm), 1e-12, 1e-12
    ):
        raise ValueError("a fixed classifier is a matrix, which no text names")
    return "etf" if norm == 1.0 else f"etf:{norm!r}"


def _read(factor: str, text: str) -> tuple[str, list[float]]:
    name, colon, number = text.partition(":")
    if name not in _SETS:
        raise ValueError(f"{factor}: unknown set {text!r}; choose one of: {SETS}")
    wanted = _NEEDS.get(name)
    if wanted is not None and not colon:
        raise ValueError(f"{factor}: {name} needs a number, as in {name}:{wanted}")
    if not colon:
        return name, []
    if name == "nonnegative":
        raise ValueError(f"{factor}: nonnegative has no number, got {text!r}")
    try:
        return name, [float(number)]
    except ValueError:
        raise ValueError(f"{factor}: {number!r} in {text!r} is not a number") from None


def _simplex_rows(num_outputs: int, dim: int, norm: float = 1.0) -> np.ndarray:
    """K vectors of a norm with equal inner products, along the first K−1 of d axes."""
    rank = num_outputs - 1
    if dim < rank:
        raise ValueError(f"classifier: etf needs dim ≥ K−1 = {rank}, got {dim}")
    if not norm > 0:
        raise ValueError(f"classifier: the norm of etf must be positive, got {norm}")
    basis = simplex_basis(num_outputs) / np.sqrt(rank / num_outputs)
    return norm * basis @ np.eye(rank, dim)
