"""`ufm spectrum`: the eigenvalues of the Hessian."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ufm.cli.output.print import say, write
from ufm.cli.parsing.options import Method, Options, ProblemOptions

if TYPE_CHECKING:
    from ufm.model.problem import Problem
    from ufm.spectra.along_run import SpectrumPath
    from ufm.spectra.at_points import SpectrumRecord

#: The options of the problem, which a file replaces.
_PROBLEM = [x for x in ProblemOptions.__struct_fields__ if x not in Options.__struct_fields__]
_OF_RUNS = ("points", "solver", "seed", "scale", "max_steps")


class Spectrum(ProblemOptions, frozen=True, kw_only=True):
    """Compute the eigenvalues of the Hessian with their multiplicities.

    Without FILE, at the global minimum of the problem that the flags describe, for any size, or
    at the origin with --at origin. With FILE, at the point in the file. With --along run, at steps
    of one run of a solver: exact numbers of negative, zero and positive eigenvalues, and both ends.

    Rotations of the features do not change f, so that many eigenvalues are zero. If all others are
    positive, a minimum is isolated up to rotations.

    The last column names the origin of an eigenvalue. lambda_H + s^2 chi: deviations of features
    from their class mean. Outside the row space: directions that W and H do not use. Trivial,
    standard, (K-2, 2), (K-2, 1, 1): class means, by representation of the permutations of classes.

    With --features or --classifier, eigenvalues are those of directions that keep norms, or of the
    entries of H that no bound holds.
    """

    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]")] = None
    """An .npz stored by ufm solve, whose folder has the problem, or a file for ufm certify."""
    at: Literal["minimum", "origin", "frame"] | None = None
    """The point, without FILE: the global minimum; the origin, with its optimal bias; or the frame.
    The frame is the simplex ETF or its analogue, which for fl may not be the minimum.
    None: minimum."""
    along: Literal["run"] | None = None
    """Follow a run from a random start instead of a point."""
    method: Literal["auto", "closed_form", "collapsed", "dense", "lanczos"] = "auto"
    """closed_form needs balanced classes, collapsed needs equal features within classes.
    dense takes any point, up to 10,000 dimensions; lanczos takes any point, but only both ends."""
    points: int = 12
    """Number of steps of the run to examine."""
    solver: Method = "newton"
    """The solver of the run."""
    scale: float = 0.1
    """Standard deviation of the entries of the start."""
    max_steps: int | None = None
    """Largest number of steps of the run. None: the solver's default."""
    out: Path | None = None
    """Folder for spectrum.npz, .csv and .json, and table.tex. None: nothing is written."""
    figures: bool = False
    """Draw the eigenvalues into the folder: PNG, PDF, SVG, data (CSV) and caption (LaTeX)."""
    json: bool = False
    """Print JSON on standard output instead of the table."""

    def run(self) -> int:
        """Compute, write, print. Files are written only if all computations succeed."""
        from ufm.cli.output import spectrum_output as output
        from ufm.cli.parsing.jax import configure

        configure()
        self._check()
        if self.along is not None:
            paths = self._paths()
            self._write(output.path_files(paths), lambda: output.draw_paths(paths))
            text = output.paths_json(paths)
            show = lambda: output.show_paths(paths)  # noqa: E731
        else:
            records, notes = self._records()
            self._write(output.spectrum_files(records), lambda: output.draw_spectra(records))
            text = output.spectra_json(records)
            show = lambda: output.show_spectra(records, notes)  # noqa: E731
        if self.json:
            write(text)
        else:
            show()
            if self.out is not None:
                say(f"Results: {self.out}")
        return 0

    def _check(self) -> None:
        """Refuse contradictory options, and invalid ones that the library does not refuse."""
        from ufm.solvers import check_options

        default = type(self)()
        given = [
            name for name in self.__struct_fields__ if getattr(self, name) != getattr(default, name)
        ]
        if self.file is not None:
            for name in ("at", "along", *_PROBLEM):
                if name in given:
                    raise ValueError(
                        f"{self.file} is a point with its own problem: leave out `{name}`"
                    )
        if self.along is None:
            for name in _OF_RUNS:
                if name in given:
                    raise ValueError(f"`{name}` is for a run: add --along run, or leave it out")
        else:
            for name in ("at", "method"):
                if name in given:
                    raise ValueError(f"`{name}` is for one point: leave it out with --along run")
        if self.figures and self.out is None:
            raise ValueError("--figures needs a folder: add --out FOLDER")
        self.at_least(points=2)
        self.check_seed()
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"`scale` must be non-negative and finite, got {self.scale}")
        check_options(self.solver, None, self.max_steps)

    def _records(self) -> "tuple[list[SpectrumRecord], tuple[str, ...]]":
        """The spectra, and notes on the file."""
        from ufm.cli.output.progress import waiting
        from ufm.spectra.at_points import record_at, record_of

        if self.file is not None:
            layer = _load(self.file)
            with waiting("eigenvalues"):
                notes = tuple(note.replace("`", "") for note in layer.notes)
                return [record_of(layer.problem, layer.params, self.method)], notes
        records = []
        for problem in self.problems().values():
            with waiting(problem.loss.label()):
                records.append(record_at(problem, self.at or "minimum", self.method))
        return records, ()

    def _paths(self) -> "list[tuple[Problem, SpectrumPath]]":
        import jax

        from ufm.cli.output.progress import progress
        from ufm.model.start import init_params
        from ufm.runs.trajectory import trajectory
        from ufm.spectra.along_run import spectrum_along

        found = []
        for problem in self.problems().values():
            # The first of the starts of `ufm solve` with this seed.
            start = jax.tree.map(
                lambda x: x[0], init_params(problem, jax.random.key(self.seed), self.scale, 1)
            )
            with progress(problem.loss.label(), self.points, "moments") as advance:
                path = trajectory(
                    problem,
                    start,
                    method=self.solver,
                    max_steps=self.max_steps,
                    num_points=self.points,
                )
                found.append((problem, spectrum_along(problem, path, advance)))
        return found

    def _write(
        self,
        files: "dict[str, bytes]",
        draw: "Callable[[], list[tuple[str, bytes]]]",
    ) -> None:
        if self.out is None:
            return
        from ufm.runs.run_folder import RunFolder

        drawn = draw() if self.figures else []
        folder = RunFolder.open(
            self.out, self.configuration() | {"file": None if self.file is None else str(self.file)}
        )
        for name, content in files.items():
            folder.add(name, content)
        for name, content in drawn:
            folder.add(f"figures/{name}", content)


def _load(path: Path):
    from ufm.last_layer.stored_point import load_solution

    try:
        return load_solution(path)
    except ValueError as error:
        # This command has none of the options of `ufm certify` besides the file.
        raise ValueError(str(error).split(", or give `")[0].replace("`", "")) from None
