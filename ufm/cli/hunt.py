"""`ufm hunt`: local minima that are not global."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ufm.cli.output.print import say, tell, write
from ufm.cli.parsing.options import Options

if TYPE_CHECKING:
    from ufm.counterexamples.found import Hunt as Found
    from ufm.counterexamples.found import SpuriousMinimum
    from ufm.counterexamples.interval import Interval
    from ufm.counterexamples.search_space import SearchSpace
    from ufm.losses import Loss

#: Largest K of a phase diagram over depth: half a minute for each number of layers.
_MOST_CLASSES = 8
Range = Annotated[tuple[float, float], tyro.conf.arg(metavar="LOW HIGH")]


class Hunt(Options, frozen=True, kw_only=True):
    """Hunt for local minima that are not global, in random problems.

    Every try draws a loss, K, n and decays from the ranges below, with d as small as the theory
    allows. It examines the origin, the simplex ETF, and the end points of Newton runs from random
    starts and from starts with dead classes (zero features). It finds critical points (gradient
    norm up to 1e-10) whose eigenvalues are all positive except zeros of rotations, with f above
    that of another point. The focal loss has such minima if 1/K < p*(gamma); theory excludes them
    for CE, LS and MSE with two factors. With --hidden-layers the origin is one of them unless it
    is the best point, and the simplex ETF often.

    For some of them it also computes the interval of sqrt(n lambda_W lambda_H) in which the point
    is a local minimum that is not global. --out writes each as an .npz for ufm certify.
    """

    losses: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOSS ...")] = ("fl:0.5", "fl:5")
    """One loss, or two of a family as the ends of a range.
    Examples: ce, ls:0 ls:0.5, fl:1 fl:5, mse:0.5,1 mse:5,2."""
    num_classes: Annotated[tuple[int, ...], tyro.conf.arg(metavar="K ...")] = (10, 24, 50, 100)
    """Numbers of classes to choose from; each takes a few seconds to compile."""
    per_class: Annotated[tuple[int, int], tyro.conf.arg(metavar="LOW HIGH")] = (1, 10)
    """n, the number of samples in each class, from LOW to HIGH."""
    decay: Range = (0.9, 1.05)
    """sqrt(lambda_W lambda_H) as a multiple of the collapse threshold."""
    ratio: Range = (0.1, 10.0)
    """lambda_W / lambda_H."""
    lam_b: float | None = None
    """Weight decay of the bias: 0 for a free bias, None for no bias."""
    hidden_layers: Annotated[tuple[int, ...], tyro.conf.arg(metavar="L ...")] = (0,)
    """Numbers of linear layers between W and the features to choose from, each with the decay
    (product of the decays)^(1/(L+2)); --decay is that over its tie with the origin."""
    tries: int = 50
    """Number of random problems."""
    seed: int = 0
    """Seed; try i depends only on the seed and i."""
    intervals: int = 3
    """Number of found minima to follow as the decay changes, one of each kind first; those with
    hidden layers are not followed."""
    accuracy: float = 1e-6
    """Relative accuracy of the ends of the intervals; less accurate ends are reported."""
    out: Path | None = None
    """Folder for hunt.json, table.tex and, without hidden layers, an .npz for every minimum. None:
    nothing is written."""
    figures: bool = False
    """Draw into the folder the phase diagrams of the focal loss, with the minima found, or with
    hidden layers those of CE or LS over depth: PNG, PDF, SVG, data (CSV) and caption (LaTeX)."""
    json: bool = False
    """Print hunt.json on standard output instead of the summary."""

    def run(self) -> int:
        """Search, follow, write, print. Ctrl-C ends the search and keeps the results so far."""
        # Matrices are small, and threads of BLAS would compete with XLA's.
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
            files = output.files(found, intervals, text)
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
        """Refuse an invalid folder before the search, not after it."""
        from ufm.runs.run_folder import RunFolder

        if self.out is None or not RunFolder.exists(self.out, self.configuration()):
            return
        done = RunFolder(self.out, {}).load("hunt")
        if done is not None and done.get("tries") == self.tries:
            raise ValueError(f"{self.out} has this hunt already: choose another --out")

    def _space(self) -> "SearchSpace":
        """Make the search space. All invalid options are refused here."""
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
        if self.figures and any(self.hidden_layers):
            self._check_depths(first, last)
        elif self.figures and not isinstance(first, Focal):
            raise ValueError("--figures draws the phase diagram of the focal loss: leave it out")
        return SearchSpace(
            losses=(first, last),
            num_classes=self.num_classes,
            per_class=self.per_class,
            decay=self.decay,
            ratio=self.ratio,
            lam_b=self.lam_b,
            hidden_layers=self.hidden_layers,
        )

    def _check_depths(self, first: "Loss", last: "Loss") -> None:
        """Refuse a phase diagram over depth that is not known or takes long."""
        from ufm.losses import CrossEntropy, LabelSmoothing

        known = isinstance(first, CrossEntropy | LabelSmoothing) and first == last
        if not known or self.lam_b is not None or not all(self.hidden_layers):
            raise ValueError(
                "--figures draws the phase diagram over depth for one loss, ce or ls, without a "
                "bias and with --hidden-layers of at least 1: leave it out"
            )
        if not 3 <= min(self.num_classes) <= max(self.num_classes) <= _MOST_CLASSES:
            raise ValueError(
                f"--figures draws the phase diagram over depth for K from 3 to {_MOST_CLASSES}: "
                "choose other --num-classes, or leave it out"
            )

    def _search(
        self, space: "SearchSpace"
    ) -> "tuple[Found | None, list[tuple[SpuriousMinimum, Interval | str]], bool]":
        """The finished tries, the finished intervals, and whether Ctrl-C was pressed."""
        import jax

        from ufm.cli.output.hunt_output import one_of_each_kind
        from ufm.cli.output.progress import progress
        from ufm.counterexamples.found import Hunt as Found
        from ufm.counterexamples.hunt import attempt
        from ufm.counterexamples.interval import spurious_interval

        attempts, intervals, interrupted = [], [], False
        key = jax.random.key(self.seed)
        try:
            with progress("hunt", self.tries, "tries") as advance:
                for number in range(self.tries):
                    attempts.append(attempt(space, key, number))
                    advance()
            every = one_of_each_kind(Found(space, tuple(attempts)).found)
            chosen = [x for x in every if not x.problem.lam_hidden][: self.intervals]
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
