r"""The TOML file of a sweep: any field may be one value, a list, or a range.

    title = "CE over the decays"
    combine = "product"                 # or "zip": ranges advance together

    [problem]
    num_classes = 10                    # or class_counts = [100, 100, 20]
    per_class = 100
    dim = 16
    lam_w = { from = 1e-5, to = 1e-2, num = 10, spacing = "log" }
    lam_h = { from = 0.01, to = 2.0, num = 10, spacing = "log", times = "threshold" }
    lam_b = 1e-2                        # "none" for no bias; lam_h = "lam_w" ties the two

    [[loss]]
    name = "ls"
    alpha = [0.0, 0.1, 0.2]

    [start]
    count = 10                          # random starts of each problem
    seed = 0

`spacing` is "linear" (the default), "log", or for random numbers "uniform" or "log_uniform". For
whole numbers the values are rounded. `times = "threshold"` makes numbers multiples of the collapse
threshold μ_c (`collapse_threshold`): λ_W = x μ_c and λ_H = y μ_c have μ/μ_c = √(xy). Losses may
also be listed in short form:
loss = ["ce", "ls:0.1", "fl:3", "mse"].

`targets = [[0.5, 0.5, 0.0], …]` in [problem], or the name of an .npz file with them, gives each
group of samples a target, and replaces num_classes.

`classifier` and `features` are sets such as "sphere" or ["sphere:1", "sphere:2"]
(`ufm.model.constraint_text`); a factor whose norm is confined has no lam_w or lam_h. `temperature`
may be a range. `lam_hidden = [5e-4]` adds a linear layer, and `hidden_dims = [12]` its width;
`lam_hidden = ["lam_w"]` ties its decay to λ_W.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from ufm._support import settings
from ufm.losses import FAMILIES
from ufm.model.targets_file import read_targets

#: Most numbers of one range.
MAX_NUMBERS = 1_000_000


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


class Range(_Table, frozen=True, rename={"start": "from", "stop": "to"}):
    """Numbers of one field: listed, spaced, or drawn at random."""

    values: list[float] | None = None
    start: float | None = None
    stop: float | None = None
    num: int | None = None
    spacing: Literal["linear", "log", "uniform", "log_uniform"] | None = None
    times: Literal["threshold"] | None = None

    def __post_init__(self) -> None:
        if self.values is None:
            self._check_ends()
            return
        if any(x is not None for x in (self.start, self.stop, self.num, self.spacing)):
            raise ValueError("a range has either values, or from, to, num and spacing")
        if not self.values:
            raise ValueError("values needs at least one number")

    def _check_ends(self) -> None:
        low, high, num = self.start, self.stop, self.num
        if low is None or high is None or num is None:
            raise ValueError("a range needs from, to and num, or values")
        if not math.isfinite(high - low):
            raise ValueError(f"from and to must be finite, got {low} and {high}")
        if not 1 <= num <= MAX_NUMBERS:
            raise ValueError(f"num must be between 1 and {MAX_NUMBERS:,}, got {num:,}")
        if self._log and not (low > 0 and high > 0):
            raise ValueError(
                f"a range of spacing {self.spacing!r} needs positive ends, got {low} and {high}"
            )
        if self._random and low > high:
            raise ValueError(f"random numbers need from ≤ to, got {low} and {high}")
        if num == 1 and low != high and not self._random:
            raise ValueError(f"num = 1 leaves out to = {high}: give the number alone, or num = 2")

    @property
    def _log(self) -> bool:
        return "log" in (self.spacing or "")

    @property
    def _random(self) -> bool:
        return "uniform" in (self.spacing or "")

    @property
    def is_rounded(self) -> bool:
        """Whether the numbers may be rounded to whole numbers; not if they are written out."""
        return self.values is None

    def numbers(self, seed: Any) -> list[float]:
        """The numbers in order; random ones depend only on the seed."""
        if self.values is not None:
            return list(self.values)
        assert self.start is not None  # as checked when it was made
        assert self.stop is not None
        assert self.num is not None
        log = self._log
        low, high = (math.log(x) if log else x for x in (self.start, self.stop))
        if self._random:
            places = np.random.default_rng(seed).uniform(low, high, self.num)
        else:
            places = np.linspace(low, high, self.num)
        numbers = [math.exp(x) if log else x for x in places.tolist()]
        if self._random:
            return numbers
        # Round as people write numbers: 0.3, not 0.30000000000000004.
        inner = [float(f"{x:.12g}") for x in numbers[1:-1]]
        return [self.start, *inner, self.stop][: self.num]


#: The fields of [problem] for a model that is not plain.
VARIANT_FIELDS = ("classifier", "features", "temperature", "lam_hidden", "hidden_dims")

Real = float | list[float] | Range
Whole = int | list[int] | Range


class ProblemTable(_Table, frozen=True, kw_only=True):
    """[problem]: sizes and decays."""

    num_classes: Whole | None = None
    per_class: Whole | None = None
    class_counts: list[int | list[int]] | None = None
    dim: Whole
    lam_w: Real | UnsetType = UNSET
    lam_h: float | Literal["lam_w"] | list[float] | Range | UnsetType = UNSET
    lam_b: float | Literal["none"] | list[float | Literal["none"]] | Range = 1e-2
    #: What a sweep does not use is left out of its store, and of its identity.
    targets: list[list[float]] | UnsetType = UNSET
    classifier: str | list[str] | UnsetType = UNSET
    features: str | list[str] | UnsetType = UNSET
    temperature: Real | UnsetType = UNSET
    lam_hidden: list[float | Literal["lam_w"]] | UnsetType = UNSET
    hidden_dims: list[int] | UnsetType = UNSET

    def __post_init__(self) -> None:
        sizes = (self.num_classes, self.per_class)
        for name, confined in (("lam_w", self.classifier), ("lam_h", self.features)):
            if getattr(self, name) is UNSET and confined is UNSET:
                raise ValueError(f"{name} is missing")
        if self.targets is not UNSET and self.num_classes is not None:
            raise ValueError("targets has a row for each group of samples: leave out num_classes")
        if self.class_counts is None:
            if self.per_class is None or (self.num_classes is None and self.targets is UNSET):
                raise ValueError("give num_classes and per_class, or class_counts")
            return
        if sizes != (None, None):
            raise ValueError("class_counts replaces num_classes and per_class: give one of them")
        nested = {isinstance(entry, list) for entry in self.class_counts}
        if len(nested) != 1:
            raise ValueError("class_counts is a list of counts, or a list of such lists")


def _loss_table(family: str) -> type[msgspec.Struct]:
    """A table of [[loss]]: a range for each hyperparameter of the family."""
    fields = [(name, Real, default) for name, default in FAMILIES[family][1].items()]
    options: dict[str, Any] = {"frozen": True, "tag": family, "tag_field": "name"}
    return msgspec.defstruct(f"{family}_table", fields, bases=(_Table,), **options)


if TYPE_CHECKING:
    LossTable = _Table
else:
    LossTable = Union[tuple(map(_loss_table, FAMILIES))]  # noqa: UP007  # of a tuple made here


class StartTable(_Table, frozen=True):
    """[start]: the starts of runs."""

    count: int = 1
    scale: Real = 0.1
    seed: Whole = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_NUMBERS:
            raise ValueError(f"count must be between 1 and {MAX_NUMBERS:,}, got {self.count:,}")


class SolverTable(_Table, frozen=True):
    """[solver]: the solver; unset `tol` and `max_steps` are the solver's defaults."""

    method: str | list[str] = "newton"
    tol: Real | None = None
    max_steps: Whole | None = None


class CertificateTable(_Table, frozen=True):
    """[certificate]: `gap_tol` as in `certify`."""

    gap_tol: Real | None = None


class KeepTable(_Table, frozen=True):
    """[keep]: what to store besides the numbers of every run."""

    history: bool = True
    arrays: bool = False
    spectrum: bool = False


class SweepConfig(_Table, frozen=True, kw_only=True):
    """The whole file."""

    title: str = ""
    combine: Literal["product", "zip"] = "product"
    problem: ProblemTable
    loss: list[str | LossTable]
    start: StartTable = StartTable()
    solver: SolverTable = SolverTable()
    certificate: CertificateTable = CertificateTable()
    keep: KeepTable = KeepTable()

    def __post_init__(self) -> None:
        if not self.loss:
            raise ValueError("loss needs at least one: ce, ls:ALPHA, fl:GAMMA or mse")


def read_config(path: Path) -> SweepConfig:
    """Read the file and check its fields.

    Raises `ValueError` that names file and field, and `OSError` if the file cannot be read.
    """
    try:
        given = settings.read(path)
        problem = given.get("problem")
        if isinstance(problem, dict) and isinstance(problem.get("targets"), str):
            problem |= _from_file(path.parent / problem["targets"], problem)
        return settings.convert(given, SweepConfig)
    except ValueError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ValueError(f"{prefix}{error}") from None


def _from_file(path: Path, problem: dict[str, Any]) -> dict[str, Any]:
    """The targets, which a folder of results then contains, and class counts unless given."""
    targets, counts = read_targets(path)
    found: dict[str, Any] = {"targets": targets.astype(float).tolist()}
    if counts is not None and not {"class_counts", "per_class"} & set(problem):
        found["class_counts"] = list(counts)
    return found
