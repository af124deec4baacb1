"""The table of `ufm solve`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ufm._support.text import command
from ufm.cli.output.console import plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say

if TYPE_CHECKING:
    from ufm.model.problem import Problem
    from ufm.runs.loss_result import LossResult

#: Names of the fields of `TargetMetrics`.
_TARGETS = ("NRC1", "NRC2", "NRC3", "distance from tag-wise averages")


def show(
    problem: "Problem", results: "list[LossResult]", folder: Path, *, drawn: bool = False
) -> None:
    """Print one row per loss (the worst of its runs), then its meaning in words.

    Unless figures are `drawn` already, the last line is the command that draws them.
    """
    headings = ("loss", "minimum", "global", "max gap", "|f−f*|", "NC1", "NC2", "NC3", "time")
    table = plain_table(headings, words=headings[:2])
    for result in results:
        table.add_row(*_row(result))
    conclusions = _conclusions(results)  # before anything is printed: a stored result may be bad
    say(headline(problem))
    show_table(table, ("time",))
    for line in conclusions:
        say(line)
    say(f"Results: {folder}")
    if not drawn:
        say(f"Figures: {again('solve', folder)}", whole=True)


def again(name: str, folder: Path) -> str:
    """The command that draws the figures of a folder of results."""
    return command(*("ufm", name, "--config", folder / "config.json", "--out", folder, "--figures"))


def number_or_dash(number: float) -> str:
    """Format with two digits; 0 is exact, and a dash is undefined."""
    if math.isnan(number):
        return "—"
    return f"{number:.1e}" if number else "0"


#: Most class counts that are all shown.
_MOST_COUNTS = 20


def headline(problem: "Problem") -> str:
    """Describe sizes and decays of a problem on one line."""
    n = problem.per_class
    sizes = problem.class_counts
    some = sizes if len(sizes) <= _MOST_COUNTS else f"{min(sizes)} to {max(sizes)}"
    counts = f"n={n}" if n is not None else f"counts {some}"
    groups = f"{problem.num_classes} groups of samples, " if problem.has_targets else ""
    decays = {"λ_W": problem.lam_w, "λ_H": problem.lam_h, "τ": problem.temperature}
    parts = [f"{name}={value:g}" for name, value in decays.items() if value is not None]
    parts += [f"{name} in {found.label()}" for name, found in problem.constraints.items()]
    if problem.lam_hidden:
        widths = zip(problem.hidden_dims, problem.lam_hidden, strict=True)
        parts += [f"hidden layer of width {width} (λ={decay:g})" for width, decay in widths]
    bias = "no bias" if problem.lam_b is None else f"λ_b={problem.lam_b:g}"
    sizes = f"K={problem.num_outputs or problem.num_classes}, d={problem.dim}, {groups}{counts}"
    return ", ".join([sizes, *parts, bias])


def _row(result: "LossResult") -> list[str]:
    from ufm.runs.loss_summary import summarise

    row = summarise(result)
    numbers = (row.max_gap, row.distance, row.nc1, row.nc2, row.nc3)
    return [
        row.label,
        row.minimum,
        f"{row.num_global}/{row.num_starts}",
        *map(number_or_dash, numbers),
        f"{row.seconds:.1f} s",
    ]


def _conclusions(results: "list[LossResult]") -> list[str]:
    total = sum(result["starts"] for result in results)
    certified = sum(result["verdicts"]["GLOBAL_MINIMUM"] for result in results)
    matching = sum(result["geometry_matches"] for result in results)
    lines = [
        f"{certified} of {total} runs ended at a proven global minimum; "
        f"{matching} of {total} have the predicted geometry."
    ]
    if collapsed := [result["label"] for result in results if _is_origin(result)]:
        lines.append(
            f"{', '.join(collapsed)}: collapsed to the origin, the predicted minimum, where "
            "NC1–NC3 are undefined."
        )
    lines += [
        f"{result['label']}: {said}." for result in results if (said := result.get("minority"))
    ]
    for result in results:
        if targets := result.get("target_metrics"):
            named = zip(_TARGETS, targets.values(), strict=True)
            said = [f"{name} {number_or_dash(x)}" for name, x in named if x is not None and x == x]
            lines += [f"{result['label']}: {', '.join(said)}"] if said else []
        others = {
            name: count
            for name, count in result["verdicts"].items()
            if count and name != "GLOBAL_MINIMUM"
        }
        if others:
            listed = ", ".join(f"{count} {name}" for name, count in others.items())
            reasons = {run["reason"] for run in result["runs"] if run["verdict"] in others}
            lines.append(f"{result['label']}: {listed} ({', '.join(sorted(reasons))})")
        unfinished = {run["status"] for run in result["runs"]} - {"CONVERGED"}
        if unfinished:
            count = sum(run["status"] in unfinished for run in result["runs"])
            lines.append(
                f"{result['label']}: {count} runs ended as {', '.join(sorted(unfinished))}; "
                "see results.json"
            )
        if not result["minimum"]["is_exact"]:
            lines.append(f"{result['label']}: f* is unknown: {result['minimum']['reason']}")
    return lines


def _is_origin(result: "LossResult") -> bool:
    """Whether a run ended at the origin, as predicted."""
    origin = result["minimum"]["kind"] == "origin"
    return origin and any(run["matches_geometry"] for run in result["runs"])
