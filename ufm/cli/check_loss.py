"""`ufm check-loss`: which theorem applies to a loss."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from ufm.cli.output.print import say, write


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
    out: Path | None = None
    """Folder for loss.json and table.tex. None: nothing is written."""
    figures: bool = False
    """Draw profile, convexity and the phases over the decay into the folder: PNG, PDF, SVG, data
    (CSV) and caption (LaTeX)."""
    json: bool = False
    """Print loss.json on standard output instead of the summary."""

    def run(self) -> int:
        """Check, write, print."""
        from ufm._support.settings import check_seed
        from ufm._support.strict_json import dumps
        from ufm.cli.parsing.jax import configure
        from ufm.loss_check.report import check_loss
        from ufm.runs.run_folder import RunFolder

        configure()
        check_seed("--seed", self.seed)
        if self.figures and self.out is None:
            raise ValueError("--figures needs a folder: add --out FOLDER")
        if self.out is not None:
            RunFolder.exists(self.out, self._configuration())  # another one is refused at once
        report = check_loss(
            _loss(self.loss),
            self.num_classes,
            lam_b=self.lam_b,
            decays=self.decays or None,
            num_starts=self.starts,
            seed=self.seed,
        )
        text = dumps(report.as_dict())
        if self.out is not None:
            self._store(report, text)
        write(text if self.json else report.explain())
        if self.out is not None and not self.json:
            say(f"Results: {self.out}")
        return 0

    def _configuration(self) -> dict[str, Any]:
        output = ("out", "figures", "json")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in output}

    def _store(self, report: Any, text: str) -> None:
        from ufm.report.loss_check.table import loss_table
        from ufm.runs.run_folder import RunFolder

        assert self.out is not None
        folder = RunFolder.open(self.out, self._configuration())
        folder.add("loss.json", text.encode())
        folder.add("table.tex", loss_table(report).encode())
        if self.figures:
            from ufm.report.loss_check.figure import loss_files

            for name, content in loss_files(report):
                folder.add(f"figures/{name}", content)


def _loss(text: str) -> Any:
    """A text of a loss, or the function that MODULE:FUNCTION names.

    Raises `ValueError`, saying what is missing, for a module or function that is not there.
    """
    import importlib
    import sys

    from ufm.losses import FAMILIES

    module, colon, name = text.partition(":")
    if module.endswith(".py") and colon:
        raise ValueError(f"{text}: name the module without .py, {module[:-3]}:{name}")
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
