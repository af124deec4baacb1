"""`ufm landscape`: find and classify critical points."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ufm.cli.each_loss import each_loss
from ufm.cli.output.print import write
from ufm.cli.parsing.options import ProblemOptions

if TYPE_CHECKING:
    from ufm.landscape import Census
    from ufm.model.problem import Problem
    from ufm.runs.run_folder import RunFolder

_EFFORT = ("starts_per_rank", "max_partitions", "starts_per_partition", "root_starts", "flows")


class Landscape(ProblemOptions, frozen=True, kw_only=True):
    """Search for critical points of any index, and classify each one.

    Searches find minima of every rank, points that are symmetric under a partition of the classes,
    roots of the gradient from many starts, and saddles at which gradient flow lingers. Descents
    from every saddle follow. Points that differ by a rotation, the order of samples or the names of
    classes count once. With --lam-hidden the points are the complete list for mse.

    Prints for every loss the number of points of each rank, the numbers of saddles and minima, and
    an estimate of the fraction of points missed. Writes a folder with a .json, .csv and .npz of
    the points for every loss, results.json, table.tex and, with --figures, figures.
    """

    dim: int = 11
    """d, the feature dimension. For d > K critical points equal those of d = K, up to rotation."""
    per_class: int = 5
    """n, the number of samples in each class. It does not affect the cost of convex losses."""
    starts_per_rank: int = 10
    """Random starts for the minima of each rank."""
    max_partitions: int = 1000
    """Largest number of partitions of the classes to search; if there are more, a random sample."""
    starts_per_partition: int = 6
    """Random starts for each rank of each partition."""
    root_starts: int = 240
    """Starts of the root finder for the gradient."""
    flows: int = 4
    """Gradient flows from small starts, whose plateaus are candidates."""
    descents: bool = True
    """Descend from every saddle in both directions; --no-descents omits this."""
    out: Path | None = None
    """Folder for the results. Run again with the same folder to continue an interrupted job.
    None: a new folder in ufm-results."""
    figures: bool = False
    """Draw figures: PNG, PDF, SVG, data (CSV) and caption (LaTeX) of each. A finished folder is
    drawn without a new search."""
    points: bool = False
    """Print every point. Default: only for losses with few points."""
    save_points: bool = False
    """Write every point as a file for ufm certify and ufm spectrum."""
    json: bool = False
    """Print the results as JSON on standard output instead of the table."""

    OUTPUT: ClassVar[tuple[str, ...]] = (*ProblemOptions.OUTPUT, "points", "save_points")

    def run(self) -> int:
        """Search loss by loss; an interruption keeps finished losses."""
        from ufm.cli.parsing.jax import configure
        from ufm.runs.run_folder import RunFolder

        configure()
        problems = self.problems(self._check)
        folder = RunFolder.open(self.out, self.configuration(), "landscape")
        results = each_loss(
            problems,
            folder,
            lambda names: ((name, self._explore(name, problems[name], folder)) for name in names),
        )
        if results is None:
            return 130
        if self.json:
            write(folder.as_json(results))
        else:
            from ufm.cli.output.landscape_output import show

            show(next(iter(problems.values())), results, folder.path, self.points, self.figures)
        self._report(problems, results, folder)
        return 0

    def _check(self, problems: "dict[str, Problem]") -> None:
        """Check the options that the problems do not check."""
        from ufm.landscape.point_space import search_space
        from ufm.model.variant import check_answers

        self.at_least(**dict.fromkeys(_EFFORT, 0))
        self.check_seed()
        if self.save_points and (self.targets or self.lam_hidden):
            other = "targets" if self.targets else "lam_hidden"
            raise ValueError(
                f"`save_points` writes W and H of class labels: leave it out with `{other}`"
            )
        for problem in problems.values():
            check_answers(problem, "explore")
            search_space(problem)

    def _explore(self, name: str, problem: "Problem", folder: "RunFolder") -> dict[str, Any]:
        """Search and store; the bits do not depend on other losses."""
        import jax

        from ufm._support.quick_jit import counted_anew
        from ufm.cli.output.progress import stages
        from ufm.landscape import explore
        from ufm.landscape.stored import census_arrays, census_entry, point_columns
        from ufm.report._table import to_csv
        from ufm.runs.run_folder import Clock, slug

        with stages(problem.loss.label()) as on_progress, counted_anew():
            clock = Clock()
            census = explore(
                problem,
                jax.random.key(self.seed),
                **{option: getattr(self, option) for option in _EFFORT},
                descend=self.descents,
                on_progress=on_progress,
            )
            seconds = clock.seconds()
        entry = census_entry(census, seconds)
        folder.add(f"{slug(name)}.csv", to_csv([point_columns(census)]).encode())
        folder.store(name, census_arrays(census), entry)
        return entry

    def _report(
        self,
        problems: "dict[str, Problem]",
        results: list[dict[str, Any]],
        folder: "RunFolder",
    ) -> None:
        """Write table.tex, single points and figures, after printing and storing the numbers."""
        from ufm.cli.output.landscape_output import draw
        from ufm.cli.output.progress import waiting
        from ufm.last_layer.stored_point import point_file
        from ufm.report.landscape.table import landscape_table
        from ufm.runs.run_folder import slug

        censuses = [
            self._stored(name, problem, result, folder)
            for (name, problem), result in zip(problems.items(), results, strict=True)
        ]
        folder.add("table.tex", landscape_table(censuses).encode())
        if self.save_points:
            with waiting("writing points"):
                for census, name in zip(censuses, problems, strict=True):
                    for number, point in enumerate(census.points):
                        content = point_file(census.problem, point.params)
                        folder.add(f"points/{slug(name)}-{number:03d}.npz", content)
        if self.figures:
            for name, content in draw(censuses, self.seed):
                folder.add(f"figures/{name}", content)

    def _stored(
        self, name: str, problem: "Problem", result: dict[str, Any], folder: "RunFolder"
    ) -> "Census":
        """Read a census from the folder, of this run or an earlier one."""
        from ufm.landscape.stored import array_names, read_census

        names = array_names(problem)
        arrays = folder.arrays(name, names)
        for wanted in names:
            if wanted not in arrays:
                raise folder.unreadable(name, ValueError(f"the array {wanted!r} is missing"))
        if {len(array) for array in arrays.values()} != {len(result["points"])}:
            counts = f"the number of points differs from the .json's: {len(result['points'])}"
            raise folder.unreadable(name, ValueError(counts))
        return read_census(problem, result, arrays)
