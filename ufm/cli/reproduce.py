"""`ufm reproduce`: published claims and ours, side by side."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from ufm.cli.output.print import say, write


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Check published claims: what each says, what is found here, and the verdict.

    Without names, lists them. PAPER checks all claims of a paper, PAPER:CLAIM one of them. A claim
    is confirmed if all its numbers agree (which proves no theorem), refuted if one does not, or not
    decided. The exit code is 1 if a verdict is not the recorded one.
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[PAPER[:CLAIM] ...]", help_behavior_hint=""),
    ] = ()
    """What to check."""
    all: bool = False
    """Check every claim: minutes."""
    out: Path | None = None
    """Folder for reproduce.json, page.html and table.tex. None: nothing is written."""
    json: bool = False
    """Print reproduce.json on standard output instead of the numbers in lines."""

    def run(self) -> int:
        """List, or check, write and print."""
        from ufm._support.strict_json import dumps
        from ufm.cli.parsing.jax import configure
        from ufm.reproduce import chosen, run
        from ufm.runs.run_folder import RunFolder, environment

        if self.all and self.names:
            raise ValueError("give names or --all, not both")
        claims = chosen(None if self.all else self.names)
        if not claims:
            if self.out is not None or self.json:
                raise ValueError("nothing to check: name a PAPER or PAPER:CLAIM, or add --all")
            self._list()
            return 0
        config = {"names": [f"{paper.key}:{claim.name}" for paper, claim in claims]}
        if self.out is not None:
            RunFolder.exists(self.out, config)  # a folder of something else is refused at once
        configure()
        results = []
        for paper, claim in claims:
            results.append(run(paper, claim))
            if not self.json:
                write(results[-1].explain() + "\n")
        told = {"environment": environment(), "claims": [x.as_dict() for x in results]}
        if self.json:
            write(dumps(told))
        if self.out is not None:
            self._store(RunFolder.open(self.out, config), results, told)
        return self._end(results)

    def _list(self) -> None:
        from ufm.reproduce import chosen

        for paper, claim in chosen(None):
            say(f"{paper.key}:{claim.name}  {claim.recorded.value}  {claim.statement}")

    def _store(self, folder: Any, results: list[Any], told: Any) -> None:
        from ufm._support.strict_json import dumps
        from ufm.report.reproduce import claims_page, claims_table

        folder.add("reproduce.json", dumps(told).encode())
        folder.add("page.html", claims_page(told).encode())
        folder.add("table.tex", claims_table(results).encode())

    def _end(self, results: list[Any]) -> int:
        changed = [x.name for x in results if not x.as_recorded]
        if not self.json:
            verdicts = [x.finding.judgement.value for x in results]
            kinds = dict.fromkeys(verdicts)
            say(", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds))
            if changed:
                say(f"Not as recorded: {', '.join(changed)}")
            if self.out is not None:
                say(f"Results: {self.out}")
        return 1 if changed else 0
