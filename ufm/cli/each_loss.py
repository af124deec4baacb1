"""Process losses one by one into a folder of results, for `ufm solve` and `ufm landscape`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ufm._support.text import command
from ufm.cli.output.print import tell

if TYPE_CHECKING:
    from ufm.model.problem import Problem
    from ufm.runs.run_folder import RunFolder


def each_loss(
    problems: "dict[str, Problem]",
    folder: "RunFolder",
    make: "Callable[[str, Problem, RunFolder], dict[str, Any]]",
) -> list[dict[str, Any]] | None:
    """The result for each problem, computed or read from the folder; None after Ctrl-C."""
    results = []
    try:
        for name, problem in problems.items():
            done = folder.load(name)
            if done is not None:
                tell(f"{name}: already in {folder.path}")
            results.append(done or make(name, problem, folder))
    except KeyboardInterrupt:
        tell("")
        tell(
            f"Interrupted: {len(results)} of {len(problems)} losses are done. "
            f"Continue with --out {command(folder.path)}"
        )
        return None
    folder.finish(results)
    return results
