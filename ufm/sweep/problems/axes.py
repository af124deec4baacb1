"""The values of every field of a sweep's file, from values, lists and ranges."""

import dataclasses
import math
import zlib
from collections import Counter
from typing import Any

import msgspec
from msgspec import UNSET

from ufm._support.settings import check_seed
from ufm.losses import parse_loss
from ufm.sweep.problems.config import VARIANT_FIELDS, Range, SweepConfig


@dataclasses.dataclass(frozen=True)
class Times:
    """A multiple of the collapse threshold, which depends on the rest of the problem."""

    factor: float


@dataclasses.dataclass(frozen=True)
class Axis:
    """The values of one field; `path` is its name in the file."""

    path: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def loss_axes(config: SweepConfig, position: int) -> list[Axis]:
    """One entry of `loss`: a loss, or the name of a family and then its hyperparameters.

    Raises `ValueError`, naming the entry, for an unknown loss.
    """
    entry, path = config.loss[position], f"loss[{position}]"
    if isinstance(entry, str):
        try:
            return [Axis(path, (parse_loss(entry),))]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    given = msgspec.structs.asdict(entry)
    axes = [axis(config, f"{path}.{field}", value) for field, value in given.items()]
    return [Axis(path, (entry.__struct_config__.tag,)), *axes]


def size_axes(config: SweepConfig) -> list[Axis]:
    """The sizes of the classes."""
    problem = config.problem
    if problem.class_counts is None:
        assert problem.per_class is not None  # as the schema checks
        classes = problem.num_classes if problem.targets is UNSET else len(problem.targets)
        return [
            axis(config, "problem.num_classes", classes, whole=True),
            axis(config, "problem.per_class", problem.per_class, whole=True),
        ]
    lists = [entry for entry in problem.class_counts if isinstance(entry, list)]
    counts = [tuple(entry) for entry in lists] if lists else [tuple(problem.class_counts)]
    return [Axis("problem.class_counts", tuple(counts))]


def variant_axes(config: SweepConfig) -> list[Axis]:
    """The fields of a model that is not plain: sets, temperature, hidden layers."""
    given = {name: getattr(config.problem, name) for name in VARIANT_FIELDS}
    used = {name: value for name, value in given.items() if value is not UNSET}
    return [
        Axis(f"problem.{name}", (tuple(value),))
        if name in ("lam_hidden", "hidden_dims")
        else axis(config, f"problem.{name}", value)
        for name, value in used.items()
    ]


def axis(
    config: SweepConfig, path: str, given: Any, *, whole: bool = False, relative: bool = False
) -> Axis:
    """One field of a sweep over problems."""
    # If ranges advance together, a value may be repeated beside different others.
    seed, once = first_seed("start.seed", config.start.seed), config.combine == "product"
    if isinstance(given, Range) and given.times is not None and relative:
        plain = msgspec.structs.replace(given, times=None)
        return Axis(path, tuple(Times(float(x)) for x in listed(path, plain, seed, once=once)))
    return Axis(path, tuple(listed(path, given, seed, whole=whole, once=once)))


def listed(
    path: str, given: Any, seed: int, *, whole: bool = False, once: bool = True
) -> list[Any]:
    """The values of a field given as one value, a list or a `Range`; the seed draws random ones.

    With `once` every value counts once: duplicates of rounded spaced numbers are dropped, and a
    value that is written twice is refused. Raises `ValueError`, naming the field.
    """
    if isinstance(given, list):
        values = list(given)
    elif isinstance(given, Range):
        if given.times is not None:
            raise ValueError(f"{path}: only lam_w and lam_h can be multiples of the threshold")
        values = given.numbers([seed, zlib.crc32(path.encode())])
    else:
        values = [given]
    if not values:
        raise ValueError(f"{path}: a list needs at least one value")
    if whole:
        rounded = isinstance(given, Range) and given.is_rounded
        values = [x if x is None else _whole(path, x, rounded) for x in values]
        if rounded and once:
            values = list(dict.fromkeys(values))
    if once:
        for value, count in Counter(values).items():
            if count > 1:
                raise ValueError(f"{path}: {value} occurs {_times(count)}: give every value once")
    return values


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def _whole(path: str, value: int | float, rounded: bool) -> int:
    if not math.isfinite(value) or not (rounded or value == round(value)):
        raise ValueError(f"{path}: needs whole numbers, got {value}")
    return round(value)


def first_seed(path: str, given: int | list[int] | Range) -> int:
    """The seed of random ranges: the first of the seeds, or 0 if the seeds are a range.

    Raises `ValueError` for an invalid seed.
    """
    if isinstance(given, Range):
        return 0
    if isinstance(given, list):
        given = given[0] if given else 0  # an empty list is refused as one
    return check_seed(path, given)
