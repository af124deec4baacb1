"""The table that `ufm solve` prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ufm.problem import Problem
    from ufm.results import LossResult


def show(problem: "Problem", results: "list[LossResult]", folder: Path) -> None:
    """One row per loss (the worst of its runs), then what it means in words."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)  # a file has no width to fit
    console.print(headline(problem))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("loss", "minimum"):
        table.add_column(heading)
    for heading in ("global", "max gap", "|f−f*|", "NC1", "NC2", "NC3", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*_row(result))
    console.print(table)
    for line in _conclusions(results):
        console.print(line, highlight=False)
    console.print(f"Results: {folder}", highlight=False, soft_wrap=True)


def headline(problem: "Problem") -> str:
    """Sizes and decays of a problem on one line."""
    n = problem.per_class
    counts = f"n={n}" if n is not None else f"counts {problem.class_counts}"
    bias = "no bias" if problem.lam_b is None else f"λ_b={problem.lam_b:g}"
    return (
        f"K={problem.num_classes}, d={problem.dim}, {counts}, "
        f"λ_W={problem.lam_w:g}, λ_H={problem.lam_h:g}, {bias}"
    )


def _column(result: "LossResult", name: str) -> Any:
    values = [run[name] for run in result["runs"]]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _worst(values: Any) -> str:
    finite = values[np.isfinite(values)]
    if len(finite) < len(values):
        return "—"
    return f"{np.max(np.abs(values)):.1e}"


def _row(result: "LossResult") -> list[str]:
    minimum = result["minimum"]
    certified = f"{result['verdicts']['GLOBAL_MINIMUM']}/{result['starts']}"
    distance = "—"
    if minimum["is_exact"]:
        distance = _worst(_column(result, "value") - minimum["value"])
    return [
        result["label"],
        minimum["kind"],
        certified,
        _worst(_column(result, "gap")),
        distance,
        *(_worst(_column(result, name)) for name in ("nc1", "nc2", "nc3")),
        f"{result['seconds']:.1f} s",
    ]


def _conclusions(results: "list[LossResult]") -> list[str]:
    total = sum(result["starts"] for result in results)
    certified = sum(result["verdicts"]["GLOBAL_MINIMUM"] for result in results)
    matching = sum(result["geometry_matches"] for result in results)
    lines = [
        f"{certified} of {total} runs ended at a proven global minimum; "
        f"{matching} of {total} have its predicted geometry."
    ]
    for result in results:
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
            lines.append(f"{result['label']}: f* is not known: {result['minimum']['reason']}")
    return lines
