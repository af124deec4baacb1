"""`ufm hunt`: local minima that are not global."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ufm.cli.output.print import say, tell, write
from ufm.cli.parsing.options import Options

if TYPE_CHECKING:
    from ufm.counterexamples.hunt import Hunt as Found
    from ufm.counterexamples.hunt import SpuriousMinimum
    from ufm.counterexamples.interval import Interval
    from ufm.counterexamples.search_space import SearchSpace

Range = Annotated[tuple[float, float], tyro.conf.arg(metavar="LOW HIGH")]


class Hunt(Options, frozen=True, kw_only=True):
    """Look for local minima that are not global, in problems drawn at random.

    Every try draws a loss, K, n and decays from the ranges below, with d as small as the theory
    allows, and looks at the origin, the simplex ETF, and where Newton runs end from random starts
    and from starts with dead classes. Found is a critical point (gradient norm up to 1e-10) whose
    eigenvalues are all positive but the zeros of rotations, with f above that of another point. The
    focal loss has such minima where 1/K < p*(gamma); theory excludes them for CE, LS and MSE.

    For some of them also the interval of sqrt(n lambda_W lambda_H) in which they stay so. --out
    writes every one as an .npz that ufm certify reads.
    """

    losses: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOSS ...")] = ("fl:0.5", "fl:5")
    """One loss, or two of a family between whose numbers one is drawn: ce, ls:0 ls:0.5,
    fl:1 fl:5, mse:0.5,1 mse:5,2."""
    num_classes: Annotated[tuple[int, ...], tyro.conf.arg(metavar="K ...")] = (10, 24, 50, 100)
    """Numbers of classes to choose from; each compiles once, a few seconds."""
    per_class: Annotated[tuple[int, int], tyro.conf.arg(metavar="LOW HIGH")] = (1, 10)
    """n, samples in each class, from LOW to HIGH."""
    decay: Range = (0.9, 1.05)
    """sqrt(lambda_W lambda_H) as a multiple of the decay at which the minimum collapses."""
    ratio: Range = (0.1, 10.0)
    """lambda_W / lambda_H."""
    lam_b: float | None = None
    """Weight decay of the bias: 0 for a free bias, None for no bias."""
    tries: int = 50
    """Problems to draw."""
    seed: int = 0
    """Seed; try i depends on the seed and i alone."""
    intervals: int = 3
    """How many of the minima found to follow as the decay changes, one of each kind first."""
    accuracy: float = 1e-6
    """Relative accuracy of the ends of the intervals; ends that miss it say so."""
    out: Path | None = None
    """Folder for hunt.json and an .npz for every minimum. None: nothing is written."""
    figures: bool = False
    """Draw the focal loss's phase diagrams, with the minima found, into the folder: PNG, PDF, SVG,
    data (CSV) and caption (LaTeX)."""
    json: bool = False
    """Print hunt.json on standard output instead of the summary."""

    def run(self) -> int:
        """Search, follow, write, print. Ctrl-C ends the search; what was found is kept."""
        # Matrices here are small: threads of BLAS would fight XLA's for the same cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from ufm.cli.output import hunt_output as output
        from ufm.cli.parsing.jax import configure

        configure()
        space = self._space()
        self._check_folder()
        found, intervals, interrupted = self._search(space)
        if found is None:
            tell("ufm: interrupted before the first try was done")
            return 130
        text = output.as_json(found, intervals, self.tries)
        if self.out is not None:
            from ufm.runs.run_folder import RunFolder

            folder = RunFolder.open(self.out, self.configuration())
            files = output.files(found, text)
            if self.figures:
                files |= output.drawn(found)
            for name, content in files.items():
                folder.add(name, content)
        if self.json:
            write(text)
        else:
            output.show(found, intervals)
            if self.out is not None:
                say(f"Results: {self.out}")
        if interrupted:
            done = len(found.attempts)
            tell(f"ufm: interrupted: {done} of {self.tries} tries are done")
        return 130 if interrupted else 0

    def _check_folder(self) -> None:
        """Refuse a folder for the results before the search rather than after it."""
        from ufm.runs.run_folder import RunFolder

        if self.out is None or not RunFolder.exists(self.out, self.configuration()):
            return
        done = RunFolder(self.out, {}).load("hunt")
        if done is not None and done.get("tries") == self.tries:
            raise ValueError(f"{self.out} has this hunt already: choose another --out")

    def _space(self) -> "SearchSpace":
        """Where to look. All that can be refused is refused here."""
        from ufm.counterexamples.search_space import SearchSpace
        from ufm.losses import Focal, parse_loss, split_losses

        losses = split_losses(self.losses)
        if not 1 <= len(losses) <= 2:
            raise ValueError(
                f"--losses takes one loss, or two as ends of a range, got {len(losses)}"
            )
        self.at_least(tries=1, intervals=0)
        self.check_seed()
        if not 1e-9 <= self.accuracy < 1:
            raise ValueError(f"--accuracy must be in [1e-9, 1), got {self.accuracy}")
        if self.lam_b is not None and not 0 <= self.lam_b < math.inf:
            raise ValueError(f"--lam-b must be non-negative and finite, or None, got {self.lam_b}")
        first, last = parse_loss(losses[0]), parse_loss(losses[-1])
        if self.figures and self.out is None:
            raise ValueError("--figures needs a folder: add --out FOLDER")
        if self.figures and not isinstance(first, Focal):
            raise ValueError("--figures draws the phases of the focal loss: leave it out")
        return SearchSpace(
            losses=(first, last),
            num_classes=self.num_classes,
            per_class=self.per_class,
            decay=self.decay,
            ratio=self.ratio,
            lam_b=self.lam_b,
        )

    def _search(
        self, space: "SearchSpace"
    ) -> "tuple[Found | None, list[tuple[SpuriousMinimum, Interval | str]], bool]":
        """The tries that were finished, the intervals that were, and whether Ctrl-C came."""
        import jax

        from ufm.cli.output.hunt_output import one_of_each_kind
        from ufm.cli.output.progress import progress
        from ufm.counterexamples.hunt import Hunt as Found
        from ufm.counterexamples.hunt import attempt
        from ufm.counterexamples.interval import spurious_interval

        attempts, intervals, interrupted = [], [], False
        key = jax.random.key(self.seed)
        try:
            with progress("hunt", self.tries, "tries") as advance:
                for number in range(self.tries):
                    attempts.append(attempt(space, key, number))
                    advance()
            chosen = one_of_each_kind(Found(space, tuple(attempts)).found)[: self.intervals]
            with progress("intervals", len(chosen), "minima") as advance:
                for minimum in chosen:
                    try:
                        intervals.append((minimum, spurious_interval(minimum, self.accuracy)))
                    except ValueError as reason:
                        intervals.append((minimum, str(reason)))
                    advance()
        except KeyboardInterrupt:
            interrupted = True
        found = Found(space, tuple(attempts)) if attempts else None
        return found, intervals, interrupted
