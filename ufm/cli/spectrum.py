"""`ufm spectrum`: the eigenvalues of the Hessian."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ufm.cli.output.print import say, write
from ufm.cli.parsing.options import Options, ProblemOptions

if TYPE_CHECKING:
    from ufm.model.problem import Problem
    from ufm.spectra.along_run import SpectrumPath
    from ufm.spectra.at_points import SpectrumRecord

#: What says which problem it is: a file brings its own.
_PROBLEM = [x for x in ProblemOptions.__struct_fields__ if x not in Options.__struct_fields__]
_OF_RUNS = ("points", "solver", "seed", "scale", "max_steps")


class Spectrum(ProblemOptions, frozen=True, kw_only=True):
    """Eigenvalues of the Hessian: how many are negative, zero, positive, and where they are.

    Without FILE, at the global minimum of the problem that the flags describe, all of them with
    multiplicities, whatever its size; at the origin with --at origin. With FILE, at that point.
    With --along run, at moments of one run of a solver: exact counts, smallest and largest.

    Zeros come in families: rotating the features changes nothing, so that many are forced. A
    minimum whose other eigenvalues are all positive is as good as isolated.

    The last column says where an eigenvalue comes from: lambda_H + s^2 chi, deviations of features
    from their class mean; outside the row space, directions that no class uses yet; trivial,
    standard, (K-2, 2), (K-2, 1, 1), class means, by the symmetry that permutes the classes.
    """

    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]")] = None
    """An .npz that ufm solve stored (its folder names the problem), or a last layer as for
    ufm certify."""
    at: Literal["minimum", "origin", "frame"] | None = None
    """Where, without FILE: the global minimum; W = H = 0 with the best bias; the simplex ETF or
    other frame, global or not (fl beyond the collapse threshold). None: minimum."""
    along: Literal["run"] | None = None
    """Follow a run from a random start instead."""
    method: Literal["auto", "closed_form", "collapsed", "dense", "lanczos"] = "auto"
    """How: closed_form (balanced classes), collapsed (features equal within classes), dense (any
    point, to 10,000 dimensions), lanczos (any point, both ends only)."""
    points: int = 12
    """Moments of a run to look at."""
    solver: Literal["newton", "lbfgs", "gradient_descent", "heavy_ball", "nesterov", "adam"] = (
        "newton"
    )
    """Whose run it is."""
    scale: float = 0.1
    """Standard deviation of the entries of the start."""
    max_steps: int | None = None
    """Most steps of the run. None: the solver's own."""
    out: Path | None = None
    """Folder for spectrum.npz, spectrum.csv and spectrum.json. None: nothing is written."""
    figures: bool = False
    """Draw them into the folder too: PNG, PDF, SVG, data (CSV) and caption (LaTeX)."""
    json: bool = False
    """Print JSON on standard output instead of the table."""

    def run(self) -> int:
        """Compute, write, print. Nothing is written unless all was computed."""
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
        """Refuse options that contradict each other, and what the library does not refuse."""
        from ufm.solvers import check_options

        default = type(self)()
        given = [
            name for name in self.__struct_fields__ if getattr(self, name) != getattr(default, name)
        ]
        if self.file is not None:
            for name in ("at", "along", *_PROBLEM):
                if name in given:
                    raise ValueError(
                        f"{self.file} is a point of a problem of its own: leave out `{name}`"
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
        """The spectra, and what is to be said of the file."""
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
        # Of what `ufm certify` can be told beside the file this command is told nothing.
        raise ValueError(str(error).split(", or give `")[0].replace("`", "")) from None
