"""`ufm sweep`: run many problems from a file, and certify each run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import tyro

from ufm._support.text import command
from ufm.cli.output.print import tell, write

if TYPE_CHECKING:
    from ufm.networks import NetworkSweep
    from ufm.sweep import Progress, Shard, SweepStore
    from ufm.sweep import Sweep as ProblemSweep

    Loaded = ProblemSweep | NetworkSweep


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run all combinations of problems, losses, solvers and starts in a TOML file.

    If the file has a table [network], run combinations of networks, losses, epochs and seeds. A
    field may be a value, a list, or a range: { from = 1e-5, to = 1e-2, num = 10, spacing = "log" }.
    A range with times = "threshold" is in multiples of the collapse threshold. Run the same command
    again to continue after an interruption: no finished run is computed twice. Ctrl-C stops after
    the current batch.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.toml")]
    """The TOML file; sweeps/ has examples."""
    out: Path | None = None
    """Folder of the results. None: ufm-results/ and the name of the file."""
    dry_run: bool = False
    """Print the cells, the compilations and an estimate from a few timed cells; write nothing."""
    shard: str | None = None
    """Run only part i of n, as i/n, for n processes on one folder, such as a job array."""
    dask: str | None = None
    """Address of a Dask scheduler whose workers compute, such as tcp://10.0.0.1:8786."""
    wait: bool = False
    """Wait while another process uses the folder, for example after a job was queued again.
    A process of another machine counts as dead after ten minutes without a sign of life."""
    json: bool = False
    """Print the summary, or with --dry-run the plan and all its cells, as JSON."""

    def run(self) -> int:
        """Load, run, and print the results."""
        from ufm.cli.parsing.jax import configure
        from ufm.sweep.provenance import continue_with_threads

        continue_with_threads(self._folder)
        configure()
        from ufm.sweep import parse_shard

        shard = None if self.shard is None else parse_shard(self.shard)
        sweep = _load(self.file)
        if self.dry_run:
            return self._plan(sweep, shard)
        return self._run(sweep, shard)

    @property
    def _folder(self) -> Path:
        return self.out or Path("ufm-results") / self.file.stem

    def _run(self, sweep: "Loaded", shard: "Shard | None") -> int:
        from ufm.cli.output.progress import sweep_progress
        from ufm.cli.parsing.stop import stop_on_signal
        from ufm.sweep import run_sweep

        last: list[Progress] = []
        with stop_on_signal() as stopped, sweep_progress(self._title(sweep)) as show:

            def on_progress(progress: "Progress") -> None:
                last.append(progress)
                show(progress)

            try:
                store = run_sweep(
                    sweep,
                    self._folder,
                    shard=shard,
                    dask=self.dask,
                    on_progress=on_progress,
                    should_stop=stopped,
                    wait=self.wait,
                )
            except ValueError as error:
                if last and last[-1].done:
                    raise ValueError(f"{error} ({_counted(last[-1])})") from None
                raise
        if last[-1].before + last[-1].done < last[-1].total:
            tell(f"Interrupted: {_counted(last[-1])}. Continue with: {self._again()}")
            return 130
        self._show(store)
        return 0

    def _title(self, sweep: "Loaded") -> str:
        return sweep.config.title or self.file.stem

    def _again(self) -> str:
        parts = ["ufm", "sweep", str(self.file)]
        parts += ["--out", str(self.out)] if self.out else []
        parts += ["--shard", self.shard] if self.shard else []
        parts += ["--dask", self.dask] if self.dask else []
        parts += ["--wait"] if self.wait else []
        return command(*parts)

    def _show(self, store: "SweepStore") -> None:
        if store.contents.kind == "networks":
            from ufm.cli.output.network_table import networks_json as as_json
            from ufm.cli.output.network_table import show_networks as show
        else:
            from ufm.cli.output.sweep_table import show
            from ufm.cli.output.sweep_table import summary_json as as_json

        if self.json:
            write(as_json(store))
        else:
            show(store)

    def _plan(self, sweep: "Loaded", shard: "Shard | None") -> int:
        from ufm.cli.output.progress import progress
        from ufm.cli.output.sweep_plan import plan_json, show_plan
        from ufm.sweep import estimate
        from ufm.sweep.growth import continued
        from ufm.sweep.plan import by_program
        from ufm.sweep.writer import store_of

        grown, _ = continued(sweep, self._folder)
        cells = list(grown.cells) if shard is None else shard.cells(grown.cells)
        store = store_of(self._folder, grown.contents)
        finished = set() if store is None else store.finished()
        todo = [cell for cell in cells if cell.index not in finished]
        with progress("timing", len(by_program(todo)), "programs") as advance:
            estimates = estimate(todo, sweep.work, advance)
        if self.json:
            write(plan_json(cells, finished, estimates))
        else:
            show_plan(cells, finished, estimates)
        return 0


def _load(file: Path) -> "Loaded":
    """Load a sweep: over networks if the file has a table [network], else over problems."""
    from ufm._support import settings

    if "network" in settings.read(file):
        from ufm.networks import load_network_sweep

        return load_network_sweep(file)
    from ufm.sweep import load_sweep

    return load_sweep(file)


def _counted(progress: "Progress") -> str:
    return f"{progress.before + progress.done:,} of {progress.total:,} cells are done"
