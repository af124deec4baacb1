"""The output of `ufm landscape`, on the terminal and as files from a stored census."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ufm.cli.output.console import Table, plain_table, title
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say
from ufm.cli.output.table import again, headline

if TYPE_CHECKING:
    from ufm.landscape import Census
    from ufm.model.problem import Problem

Entry = dict[str, Any]

#: Most points of a loss that are printed without --points.
_FEW = 20
#: Scale and spread of the start of the drawn flow, small enough for plateaus to be visible.
_START = (1e-3, 1e-3)
_VERDICTS = (
    ("GLOBAL_MINIMUM", "global minimum", "global minima"),
    ("STRICT_SADDLE", "strict saddle", "strict saddles"),
    ("LOCAL_MINIMUM", "local minimum", "local minima"),
    ("MINIMUM_ON_CONVEX_REGION", "minimum over the convex region", "minima over the convex region"),
    ("UNDECIDED", "undecided", "undecided"),
    ("NOT_CRITICAL", "not critical", "not critical"),
)


# On the terminal -----------------------------------------------------------------------------


def show(
    problem: "Problem", results: Sequence[Entry], folder: Path, every_point: bool, drawn: bool
) -> None:
    """Print one row per loss, its meaning in words, and the points if they are few.

    Unless figures are `drawn` already, the last line is the command that draws them.
    """
    say(headline(problem))
    show_table(_overview(results), ("hit rate", "time"))
    for result in results:
        for line in conclusions(result):
            say(f"{result['label']}: {line}")
    for result in results:
        if every_point or len(result["points"]) <= _FEW:
            title(result["label"])
            show_table(_points(result), ("found by", "‖G‖₂/μ"))
    say(f"Results: {folder}")
    if not drawn:
        say(f"Figures: {again('landscape', folder)}", whole=True)


def _overview(results: Sequence[Entry]) -> Table:
    highest = max(int(rank) for result in results for rank in result["ladder"])
    ranks = f"of rank 0–{highest}" if highest else "of rank 0"
    headings = ("loss", "points", ranks, "saddles", "minima", "other", "unseen", "hit rate", "time")
    table = plain_table(headings, words=("loss",), gap=2)
    for result in results:
        counts = [point["rank"] for point in result["points"]]
        verdicts = result["verdicts"]
        minima = sum(count for name, count in verdicts.items() if "MINIMUM" in name)
        roots = result["root_finder"]
        table.add_row(
            result["label"],
            str(len(counts)),
            " ".join(str(counts.count(rank)) for rank in range(highest + 1)),
            str(verdicts["STRICT_SADDLE"]),
            str(minima),
            str(len(counts) - verdicts["STRICT_SADDLE"] - minima),
            _percent(roots["unseen"]),
            _percent(roots["hit_rate"]),
            f"{result['seconds']:.1f} s",
        )
    return table


def _percent(share: float | None) -> str:
    return "—" if share is None or share != share else f"{100 * share:.3g} %"


def conclusions(result: Entry) -> list[str]:
    """Describe the points found, with the limits of the search."""
    counted = [
        f"{count} {one if count == 1 else many}"
        for name, one, many in _VERDICTS
        if (count := result["verdicts"][name])
    ]
    total = len(result["points"])
    points = "critical point" if total == 1 else "critical points"
    spurious = result["counterexamples"]
    if spurious:
        verb = "is a local minimum" if spurious == 1 else "are local minima"
        rest = f"{spurious} of them {verb} that {'is' if spurious == 1 else 'are'} not global"
    else:
        rest = "no local minimum above the lowest was found"
    return [f"{total} {points} found: {', '.join(counted)}; {rest}.", *notes(result)]


def notes(result: Entry) -> list[str]:
    """Describe the limits of the search, and the results that are counted separately."""
    said = []
    if not result["minimum"]["is_exact"]:
        said.append(f"f* is unknown: {result['minimum']['reason']}")
    if not result["is_complete_space"]:
        said.append(
            "only points with equal features within classes were searched; a loss that is not "
            "convex may have others"
        )
    searched, total = result["partitions"], result["partitions_total"]
    if searched < total:
        said.append(f"{searched:,} of {total:,} partitions were searched, drawn at random")
    degenerate = sum(point["is_degenerate"] for point in result["points"])
    if degenerate:
        said.append(
            f"{degenerate} {'point has' if degenerate == 1 else 'points have'} more zero "
            "eigenvalues than symmetry forces, as in a continuum of points, which counts once"
        )
    flat = sum(search["gradient_flat"] for search in result["searches"])
    unfinished = sum(search["unfinished"] for search in result["searches"])
    starts = sum(search["starts"] for search in result["searches"])
    ends = [
        *([f"{flat} ended at gradient-flat points (∇²f ∇f = 0, ∇f ≠ 0)"] if flat else []),
        *([f"{unfinished} {'' if flat else 'ended '}at no critical point"] if unfinished else []),
    ]
    if ends:
        said.append(f"of {starts:,} searches, {' and '.join(ends)}: not counted")
    return said + ([result["note"]] if result["note"] else [])


def _points(result: Entry) -> Table:
    exact = result["minimum"]["is_exact"]
    heading = "f − f*" if exact else "f"
    numbers = ("#", heading, "rank", "index", "zeros", "‖G‖₂/μ", "λ_min")
    words = ("verdict", "found by")
    table = plain_table((*numbers, *words), words=words, gap=2)
    for number, point in enumerate(result["points"]):
        table.add_row(
            str(number),
            _excess(point, result["minimum"]["value"]) if exact else f"{point['value']:.8g}",
            *(f"{point[name]:,}" for name in ("rank", "index")),
            f"{point['zero_modes']:,} ({point['gauge_modes']:,})",
            f"{point['dual_ratio']:.5g}",
            _smallest(point),
            point["verdict"].lower().replace("_", " "),
            _finders(point["hits"]),
        )
    table.caption = "zeros: zero eigenvalues, in parentheses those that symmetry forces"
    table.caption_justify = "left"
    return table


def _excess(point: Entry, star: float) -> str:
    from ufm.model.rounding import resolved

    excess = float(resolved(point["excess"], star))
    return f"{excess:.4e}" if excess else "0"


def _smallest(point: Entry) -> str:
    """λ_min, or 0 if by the counts no eigenvalue is negative and some are zero."""
    zero = point["zero_modes"] and not point["index"]
    return "0" if zero else f"{point['smallest']:.3e}"


def _finders(hits: dict[str, int]) -> str:
    """The kinds of search that found a point, and their numbers."""
    from ufm.landscape.starts import KINDS

    merged: dict[str, int] = {}
    for kind, count in hits.items():
        name = "roots" if kind in KINDS else kind
        merged[name] = merged.get(name, 0) + count
    return ", ".join(f"{name} {count}" for name, count in merged.items())


# As files ------------------------------------------------------------------------------------


def draw(censuses: "Sequence[Census]", seed: int) -> list[tuple[str, bytes]]:
    """Make the files of the figures, and integrate the flows to draw."""
    import jax

    from ufm.cli.output.progress import progress, waiting
    from ufm.landscape import gradient_flow, small_start
    from ufm.landscape.point_space import search_space
    from ufm.report import landscape_files

    flows = []
    if any(census.problem.lam_hidden for census in censuses):  # flows are those of two factors
        with waiting("drawing figures"):
            return landscape_files(censuses)
    with progress("flows", len(censuses), "losses") as advance:
        for census in censuses:
            means = search_space(census.problem).means
            start = small_start(means, jax.random.key(seed), *_START)
            flows.append(gradient_flow(means, start))
            advance()
    with waiting("drawing figures"):
        return landscape_files(censuses, flows)
