"""Problems from the flags that `ufm solve`, `ufm spectrum` and `ufm landscape` share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ufm.losses import Loss
    from ufm.model.problem import Problem


@runtime_checkable
class ProblemOptions(Protocol):
    """The flags."""

    @property
    def config(self) -> Path | None: ...
    @property
    def losses(self) -> tuple[str, ...]: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def per_class(self) -> int: ...
    @property
    def counts(self) -> tuple[int, ...]: ...
    @property
    def lam_w(self) -> float: ...
    @property
    def lam_h(self) -> float: ...
    @property
    def lam_b(self) -> float | None: ...


def parse_losses(specs: tuple[str, ...]) -> "dict[str, Loss]":
    """Losses by their canonical texts. Raises `ValueError` for none, unknown and repeated ones."""
    from ufm.losses import loss_spec, parse_loss, split_losses

    specs = split_losses(specs)
    if not specs:
        raise ValueError("--losses needs at least one loss: ce, ls:ALPHA, fl:GAMMA or mse")
    losses = {loss_spec(loss): loss for loss in map(parse_loss, specs)}
    if len(losses) < len(specs):
        raise ValueError(f"--losses names a loss twice: {' '.join(specs)}")
    return losses


def build_problems(
    options: ProblemOptions, check: "Callable[[dict[str, Problem]], None]"
) -> "dict[str, Problem]":
    """A problem for each loss, by its name, if `check` has nothing against them.

    Raises the `ValueError` of whatever refuses, with the file that options come from.
    """
    try:
        losses = parse_losses(options.losses)
        problems = {name: build_problem(options, loss) for name, loss in losses.items()}
        check(problems)
    except ValueError as error:
        if options.config is None:
            raise
        raise ValueError(f"{error} (options of {options.config}, then of the flags)") from None
    return problems


def build_problem(options: ProblemOptions, loss: "Loss") -> "Problem":
    """Raises `ValueError` for sizes and decays that are none."""
    from ufm.model.problem import Problem

    decays = {"lam_w": options.lam_w, "lam_h": options.lam_h, "lam_b": options.lam_b}
    if options.counts:
        return Problem(loss=loss, class_counts=options.counts, dim=options.dim, **decays)
    sizes = {
        "num_classes": options.num_classes,
        "per_class": options.per_class,
        "dim": options.dim,
    }
    return Problem.balanced(loss=loss, **sizes, **decays)
