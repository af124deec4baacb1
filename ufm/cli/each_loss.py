"""Process losses into a folder of results, for `ufm solve` and `ufm landscape`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ufm._support.text import command
from ufm.cli.output.print import tell

if TYPE_CHECKING:
    from ufm.model.problem import Problem
    from ufm.runs.run_folder import RunFolder


def each_loss(
    problems: "dict[str, Problem]",
    folder: "RunFolder",
    make: "Callable[[list[str]], Iterator[tuple[str, dict[str, Any]]]]",
) -> list[dict[str, Any]] | None:
    """The result for each problem, computed or read from the folder; None after Ctrl-C.

    `make` yields name and result of each of the losses that it is given.
    """

    def stored() -> dict[str, dict[str, Any]]:
        found = {name: folder.load(name) for name in problems}
        return {name: result for name, result in found.items() if result is not None}

    done = stored()
    for name in done:
        tell(f"{name}: already in {folder.path}")
    try:
        for name, result in make([name for name in problems if name not in done]):
            done[name] = result
    except KeyboardInterrupt:
        tell("")
        tell(
            f"Interrupted: {len(stored())} of {len(problems)} losses are done. "
            f"Continue with --out {command(folder.path)}"
        )
        return None
    results = [done[name] for name in problems]
    folder.finish(results)
    return results
