"""`ufm check-loss`: which theorem applies to a loss."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from ufm.cli.output.print import say, write

_FORMATS = (".png", ".pdf", ".svg")


@dataclasses.dataclass(frozen=True)
class CheckLoss:
    """Does a loss belong to the family whose global minima are neural collapse, and if not, what?

    LOSS is a text (ce, ls:0.1, fl:3, poly:2, gce:0.7, sce, taylor:2, mae, brier, nl, cce, cot,
    bitempered, cs, ww, bce, temperature:0.5, logitnorm) or MODULE:FUNCTION, a JAX function of
    (logits (K,), label) in a module that Python finds from here: mine:loss is loss in mine.py.

    Prints every answer with how it was decided: a proof, a witness, or undecided where samples
    found nothing. Then the conclusion, the decay at which collapse ends, and prediction and outcome
    at two decays, from random starts with one sample a class and d = K.
    """

    loss: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOSS")]
    """A text, or MODULE:FUNCTION."""
    num_classes: int = 10
    """K, the number of classes."""
    lam_b: float | None = None
    """Weight decay of the bias: 0 for a free bias, None for no bias."""
    decays: Annotated[
        tuple[float, ...],
        tyro.conf.arg(
            metavar="DECAY ...", help_behavior_hint="(default: half and 0.9 of the threshold)"
        ),
    ] = ()
    """K sqrt(n) mu at which the model is solved."""
    starts: int = 20
    """Random starts at each decay; 0 solves nothing."""
    seed: int = 0
    """Seed of all that is random."""
    figure: Path | None = None
    """Draw profile, convexity and the phases over the decay into this file (.png, .pdf or .svg)."""
    json: bool = False
    """Print everything as JSON."""

    def run(self) -> int:
        """Check, print, draw."""
        from ufm._support.settings import check_seed
        from ufm.cli.parsing.jax import configure
        from ufm.loss_check.report import check_loss

        configure()
        check_seed("--seed", self.seed)
        if self.figure is not None and self.figure.suffix not in _FORMATS:
            raise ValueError(f"--figure ends in one of {' '.join(_FORMATS)}, got {self.figure}")
        report = check_loss(
            _loss(self.loss),
            self.num_classes,
            lam_b=self.lam_b,
            decays=self.decays or None,
            num_starts=self.starts,
            seed=self.seed,
        )
        if self.figure is not None:
            self._draw(report)
        if self.json:
            from ufm._support.strict_json import dumps

            write(dumps(report.as_dict()))
        else:
            write(report.explain())
            if self.figure is not None:
                say(f"Figure: {self.figure}")
        return 0

    def _draw(self, report: Any) -> None:
        from ufm.report.loss_check import save_loss_figure

        assert self.figure is not None
        save_loss_figure(report, self.figure)


def _loss(text: str) -> Any:
    """A text of a loss, or the function that MODULE:FUNCTION names.

    Raises `ValueError`, saying what is missing, for a module or function that is not there.
    """
    import importlib
    import sys

    from ufm.losses import FAMILIES

    module, colon, name = text.partition(":")
    if module.lower() in FAMILIES or not colon or not name.isidentifier():
        return text
    sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{text}: there is no module {error.name}: run from the folder of {module}.py"
        ) from None
    except Exception as error:
        raise ValueError(f"{text}: importing {module} failed: {error}") from None
    finally:
        sys.path.remove("")
    if not hasattr(found, name):
        raise ValueError(f"{text}: {module} has no function {name}")
    function = getattr(found, name)
    if not callable(function):
        raise ValueError(f"{text}: {name} in {module} is not a function")
    return function
