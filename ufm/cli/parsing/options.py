"""Shared options of commands: a file of options, the seed, and the flags of a problem."""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
import tyro

if TYPE_CHECKING:
    from ufm.model.problem import Problem

#: The solvers.
Method = Literal["newton", "lbfgs", "gradient_descent", "heavy_ball", "nesterov", "adam"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a command whose options can come from a file, named by a field and flag."""

    config: Path | None = None
    """TOML file of options, with the names below and _ for -: seed = 4. Flags override it.
    The config.json of a folder of results repeats its run."""

    seed: int = 0
    """Seed of all random numbers."""

    #: Options that do not affect the numbers.
    OUTPUT: ClassVar[tuple[str, ...]] = ("config", "out", "figures", "json")

    def configuration(self) -> dict[str, Any]:
        """The options that affect the numbers, as opposed to their output."""
        given = msgspec.structs.asdict(self)
        return {name: value for name, value in given.items() if name not in self.OUTPUT}

    def check_seed(self) -> None:
        """Raise `ValueError` for a seed out of range."""
        from ufm._support.settings import check_seed

        check_seed("`seed`", self.seed)

    def at_least(self, **least: int) -> None:
        """Raise `ValueError` for the first option that is below its bound."""
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"`{name}` must be at least {bound}, got {getattr(self, name)}")

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Add the name of the options file to a `ValueError` within this context."""
        try:
            yield
        except ValueError as error:
            if self.config is None:
                raise
            raise ValueError(f"{error} (with options from {self.config} and flags)") from None


#: Options that a folder's configuration leaves out where they are not used, as it always did.
_OPTIONAL = (
    *("targets", "targets_sha256", "features", "classifier", "temperature"),
    *("lam_hidden", "hidden_dims", "lam_w", "lam_h"),
)
_DECAY = 5e-4
#: One object, since any number may be given.
_NOT_GIVEN = math.nan


def _decay_of(factor: str) -> Any:
    hint = f"(default: {_DECAY:g}, none if the norm of the {factor} is confined)"
    return tyro.conf.arg(help_behavior_hint=hint)


class ProblemOptions(Options, frozen=True, kw_only=True):
    """Base of a command on problems that differ only in their loss."""

    losses: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOSS ...")] = (
        "ce",
        "ls:0.1",
        "fl:3",
        "mse",
    )
    """Losses: ce, ls:ALPHA, fl:GAMMA, mse, mse:SCALE,TARGET, or others: poly:EPSILON, gce:Q,
    sce:ALPHA,BETA,A, taylor:TERMS, mae, brier, nl, cce, cot, bitempered:T1,T2, cs:POWER, ww:POWER,
    bce, temperature:TAU, logitnorm:TAU; and supcon or supcon:TAU, the supervised contrastive loss
    of features on the unit sphere, without W, b and their decays."""
    num_classes: int = 10
    """K, the number of classes."""
    dim: int = 16
    """d, the feature dimension. A simplex ETF needs d >= K-1."""
    per_class: int = 100
    """n, the number of samples in each class."""
    counts: Annotated[
        tuple[int, ...], tyro.conf.arg(help_behavior_hint="(default: n in each)")
    ] = ()
    """Numbers of samples of unequal classes: --counts 100 100 20 5. Replaces K and n."""
    targets: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """File .npz with `targets`, a row for each group of samples: probabilities or 0/1 for ce and
    ls, numbers in [0, 1] for bce, any for mse (regression), one-hot for other losses. The sizes of
    the groups are `class_counts` in the file, --counts, or n. Replaces K."""
    targets_sha256: str = ""
    """SHA-256 of that file, as config.json has it. Another content is refused."""
    lam_w: Annotated[float | None, _decay_of("classifier")] = _NOT_GIVEN
    """Weight decay of the classifier W."""
    lam_h: Annotated[float | None, _decay_of("features")] = _NOT_GIVEN
    """Weight decay of the features H."""
    lam_b: float | None = 1e-2
    """Weight decay of the bias: 0 for a free bias, None for no bias."""
    features: Annotated[str | None, tyro.conf.arg(metavar="SET")] = None
    """Set of each feature vector: nonnegative (weight decay stays), sphere, sphere:RADIUS,
    ball:RADIUS, or budget:MEAN_SQUARE. None: weight decay alone."""
    classifier: Annotated[str | None, tyro.conf.arg(metavar="SET")] = None
    """Set of each row of W: sphere, sphere:RADIUS, ball:RADIUS, budget:MEAN_SQUARE, or etf
    (etf:NORM), a fixed simplex ETF. None: weight decay alone."""
    temperature: float | None = None
    """tau: logits are W h / tau. For factors of confined norm."""
    lam_hidden: Annotated[
        tuple[float, ...], tyro.conf.arg(help_behavior_hint="(default: no such layer)")
    ] = ()
    """Weight decay of each linear layer between W and the features."""
    hidden_dims: Annotated[tuple[int, ...], tyro.conf.arg(help_behavior_hint="(default: d)")] = ()
    """Widths between W and the first of these layers, the first and the second, and so on."""

    def __post_init__(self) -> None:
        for name, factor in (("lam_w", self.classifier), ("lam_h", self.features)):
            if getattr(self, name) is _NOT_GIVEN:
                decayed = factor is None or factor == "nonnegative"
                msgspec.structs.force_setattr(self, name, _DECAY if decayed else None)

    def configuration(self) -> dict[str, Any]:
        """The options that affect the numbers, with the digest of the file of targets if any."""
        found = super().configuration()
        unused = {name for name in _OPTIONAL if found[name] in (None, "", ())}
        found = {name: value for name, value in found.items() if name not in unused}
        return found if self.targets is None else found | {"targets_sha256": _sha256(self.targets)}

    def problems(
        self, check: "Callable[[dict[str, Problem]], None]" = lambda _: None
    ) -> "dict[str, Problem]":
        """Make a problem for each loss, by its canonical text, and run `check` on them.

        Raises the `ValueError` of the check that fails.
        """
        from ufm.losses import distinct_losses, split_losses
        from ufm.model.problem_spec import ProblemSpec

        with self.refusing():
            self.at_least(num_classes=1, per_class=1)
            counts, targets = self._groups()
            pairs, listed = self._contrastive(split_losses(self.losses), counts)
            losses = distinct_losses(listed) if listed or not pairs else {}
            found = {
                text: ProblemSpec(
                    loss,
                    counts,
                    self.dim,
                    lam_w=self.lam_w,
                    lam_h=self.lam_h,
                    lam_b=self.lam_b,
                    targets=targets,
                    classifier=self.classifier,
                    features=self.features,
                    temperature=self.temperature,
                    lam_hidden=self.lam_hidden,
                    hidden_dims=self.hidden_dims,
                ).problem()
                for text, loss in losses.items()
            } | pairs
            check(found)
        return found

    def _contrastive(
        self, losses: tuple[str, ...], counts: tuple[int, ...]
    ) -> "tuple[dict[str, Problem], tuple[str, ...]]":
        """The problems of `supcon:TAU` by canonical text, and the losses that have a classifier."""
        texts = [text for text in losses if text.partition(":")[0] == "supcon"]
        if not texts:
            return {}, losses
        from ufm.variants.contrastive.text import contrastive_problems

        if self.targets is not None:
            raise ValueError("supcon compares samples of classes: not with `targets`")
        others = tuple(text for text in losses if text not in texts)
        for name in ("classifier", "temperature", "lam_hidden"):
            if not others and getattr(self, name) not in (None, ()):
                raise ValueError(f"`{name}` is not for supcon, whose temperature is supcon:TAU")
        return contrastive_problems(texts, counts, self.dim, self.features), others

    def _groups(self) -> tuple[tuple[int, ...], tuple[tuple[float, ...], ...] | None]:
        """The numbers of samples, and a target for each; None for class labels."""
        from ufm.model.checks import check_size

        if self.targets is None:
            classes, of_each = self.num_classes, self.per_class
            samples = sum(self.counts) if self.counts else classes * of_each
            # Before a list of that length is made.
            check_size(len(self.counts) or classes, samples, self.dim)
            return self.counts or (of_each,) * classes, None
        from ufm.model.targets_file import read_targets

        table, counts = read_targets(Path(self.targets))
        if self.targets_sha256 not in ("", _sha256(self.targets)):
            raise ValueError(
                f"{self.targets} is not the file of this configuration, whose SHA-256 is "
                f"{self.targets_sha256[:12]}…: restore it, or leave out `targets_sha256`"
            )
        rows = tuple(tuple(map(float, row)) for row in table)
        found = self.counts or counts or (self.per_class,) * len(rows)
        check_size(len(found), sum(found), self.dim)
        return found, rows


def _sha256(file: str) -> str:
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
