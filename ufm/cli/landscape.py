"""`ufm landscape`: the critical points, and what each is."""

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
    """Search for the critical points of every kind, and classify every one that is found.

    Minima of every rank, points that are symmetric under a partition of the classes, roots of the
    gradient from many starts, and where gradient flow lingers; then descents from every saddle.
    Points that differ by a rotation, the order of samples or the names of classes count once.

    For every loss: how many points were found of each rank, how many are saddles and minima, and
    an estimate of how much was missed. Results go to a folder: for every loss a .json, .csv and
    .npz of the points, results.json, table.tex, and, if asked for, figures.
    """

    dim: int = 11
    """d, the feature dimension. Critical points of d > K are those of d = K, up to rotation."""
    per_class: int = 5
    """n, samples in each class. What convex losses cost does not depend on it."""
    starts_per_rank: int = 10
    """Random starts for the minima of each rank."""
    max_partitions: int = 1000
    """Partitions of the classes searched; if there are more, as many are drawn at random."""
    starts_per_partition: int = 6
    """Random starts for each rank of each partition."""
    root_starts: int = 240
    """Starts of the root finder on the gradient."""
    flows: int = 4
    """Gradient flows from small starts, whose plateaus are candidates."""
    descents: bool = True
    """Follow every saddle down both ways, and see where that ends."""
    out: Path | None = None
    """Folder for the results. Run again with the same folder to continue an interrupted job.
    None: a new folder in ufm-results."""
    figures: bool = False
    """Draw figures: PNG, PDF, SVG, data (CSV) and caption (LaTeX) of each. A finished folder is
    drawn without a new search."""
    points: bool = False
    """Print every point. Without it, those of losses with few."""
    save_points: bool = False
    """Write every point as a file that ufm certify and ufm spectrum take."""
    json: bool = False
    """Print the results as JSON on standard output instead of the table."""

    OUTPUT: ClassVar[tuple[str, ...]] = (*ProblemOptions.OUTPUT, "points", "save_points")

    def run(self) -> int:
        """Search loss by loss; partial results survive an interruption."""
        from ufm.cli.parsing.jax import configure
        from ufm.runs.run_folder import RunFolder

        configure()
        problems = self.problems(self._check)
        folder = RunFolder.open(self.out, self.configuration(), "landscape")
        results = each_loss(problems, folder, self._explore)
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
        """Refuse what the problems themselves do not."""
        from ufm.landscape.point_space import search_space

        self.at_least(**dict.fromkeys(_EFFORT, 0))
        self.check_seed()
        for problem in problems.values():
            search_space(problem)

    def _explore(self, name: str, problem: "Problem", folder: "RunFolder") -> dict[str, Any]:
        import jax

        from ufm.cli.output.progress import stages
        from ufm.landscape import explore
        from ufm.landscape.stored import census_arrays, census_entry, point_columns
        from ufm.report._table import to_csv
        from ufm.runs.run_folder import Clock, slug

        with stages(problem.loss.label()) as on_progress:
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
        """table.tex, single points and figures. The numbers are printed and stored by now."""
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
        """The census as the folder has it, be it of this run or of one before."""
        from ufm.landscape.stored import ARRAYS, read_census

        arrays = folder.arrays(name, ARRAYS)
        for wanted in ARRAYS:
            if wanted not in arrays and (problem.has_bias or not wanted.endswith("b")):
                raise folder.unreadable(name, ValueError(f"the array {wanted!r} is missing"))
        if {len(array) for array in arrays.values()} != {len(result["points"])}:
            counts = f"not as many points as the .json has: {len(result['points'])}"
            raise folder.unreadable(name, ValueError(counts))
        return read_census(problem, result, arrays)
