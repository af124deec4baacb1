"""The output of `ufm hunt`, on the terminal and in files."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ufm.cli.output.console import plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say

if TYPE_CHECKING:
    from ufm.counterexamples.found import Hunt, SpuriousMinimum
    from ufm.counterexamples.interval import End, Interval

#: Minima and their intervals, or the reason why an interval is missing.
Intervals = Sequence[tuple["SpuriousMinimum", "Interval | str"]]

#: Most minima to print; all are in hunt.json.
_MOST = 15
_HEADINGS = (
    *("try", "loss", "K", "n", "μ√n", "local minimum"),
    *("f", "above lower", "λ_min > 0", "zeros", "|∇f|"),
)
#: Columns to omit first on a narrow terminal.
_LEAST = ("|∇f|", "zeros", "try", "λ_min > 0", "n")
_FORMAT = 1
#: The decays e of the phase diagram over depth: from, to, and their number.
_DEPTH_DECAYS = (1e-4, 0.3, 25)


def one_of_each_kind(found: "Sequence[SpuriousMinimum]") -> "list[SpuriousMinimum]":
    """Put the first minimum of each kind first: origin, ETF, dead classes, others."""
    first = {kind_of(each): each for each in reversed(found)}
    chosen = sorted(first.values(), key=lambda each: each.attempt)
    return chosen + [each for each in found if all(each is not other for other in chosen)]


def kind_of(minimum: "SpuriousMinimum") -> str:
    """The kind without its numbers."""
    return "dead classes" if minimum.dead_classes and minimum.rank else minimum.kind


def show(found: "Hunt", intervals: Intervals) -> None:
    """Print the first minima in a table, the intervals, and the extent of the search."""
    if found.found:
        from ufm.counterexamples.found import rate_name

        decay = rate_name(found.found[0].problem)
        headings = tuple(decay if heading == "μ√n" else heading for heading in _HEADINGS)
        table = plain_table(headings, words=("local minimum",), gap=2)
        for each in found.found[:_MOST]:
            table.add_row(*_row(each))
        show_table(table, _LEAST)
        if len(found.found) > _MOST:
            say(f"… and {len(found.found) - _MOST} more: see --json or --out")
    for minimum, interval in intervals:
        p = minimum.problem
        about = f"{p.loss.label()}, K={p.num_classes}, {minimum.kind}: "
        say(about + _in_words(interval))
    say(found.explain())


def _in_words(interval: "Interval | str") -> str:
    if isinstance(interval, str):
        return f"its interval is unknown: {interval}"
    digits = max(8, 2 - math.floor(math.log10(interval.accuracy)))
    lower, upper = interval.lower, interval.upper
    low = f"{lower.rate:.{digits}g}" if lower.reached else f"at most {lower.inside:.4g}"
    high = f"{upper.rate:.{digits}g}" if upper.reached else f"at least {upper.inside:.4g}"
    words = (
        f"a local minimum that is not global for μ√n in ({low}, {high}); below "
        f"{_event(lower)}, above {_event(upper)}"
    )
    if not interval.is_accurate:
        error = max(end.error for end in (lower, upper) if end.reached)
        words += f"; rounding makes the ends uncertain by {error:.0e} of them"
    return words


def _event(end: "End") -> str:
    return f"it {end.event}" if end.reached else "it was not followed further"


def _row(each: "SpuriousMinimum") -> list[str]:
    p = each.problem
    return [
        str(each.attempt),
        each.model,
        str(p.num_classes),
        str(p.per_class),
        f"{each.rate:.6g}",
        each.kind,
        f"{each.value:.8g}",
        f"{each.excess:.2e}",
        f"{each.smallest:.2e}",
        f"{each.zeros:,}",
        f"{each.grad_norm:.0e}",
    ]


def as_json(found: "Hunt", intervals: Intervals, asked: int) -> str:
    """All minima with all their numbers, and the extent of the search, as JSON."""
    from ufm._support.strict_json import dumps
    from ufm.runs.run_folder import environment

    ends = {id(minimum): _of_interval(interval) for minimum, interval in intervals}
    minima = [
        _of_minimum(each, name) | ends.get(id(each), {"interval": None})
        for each, name in zip(found.found, _names(found), strict=True)
    ]
    return dumps(
        {
            "format": _FORMAT,
            "environment": environment(),
            "tries": len(found.attempts),
            "tries_asked": asked,
            "points": found.points,
            "saddles": found.saddles,
            "undecided": found.undecided,
            "found": minima,
        }
    )


def _of_minimum(each: "SpuriousMinimum", name: str) -> dict[str, Any]:
    from ufm.model.problem_spec import ProblemSpec

    problem = ProblemSpec.of(each.problem).named()
    counts = problem.pop("class_counts")
    numbers = ("value", "lower_value", "lower", "excess", "grad_norm", "index", "zeros", "smallest")
    return {
        "file": None if each.problem.lam_hidden else name,
        "try": each.attempt,
        "found_by": each.found_by,
        "kind": each.kind,
        "num_classes": len(counts),
        "per_class": counts[0],
        **problem,
        "rate": each.rate,
        "rank": each.rank,
        "dead_classes": each.dead_classes,
        "zeros_by_symmetry": each.gauge_dimension,
        **{number: getattr(each, number) for number in numbers},
    }


def _of_interval(interval: "Interval | str") -> dict[str, Any]:
    """An interval as JSON: ends not reached are null; `followed` is the range followed."""
    if isinstance(interval, str):
        return {"interval": None, "interval_unknown": interval}
    ends = {}
    for name, event, end in (
        ("lower", "below", interval.lower),
        ("upper", "above", interval.upper),
    ):
        ends[name] = end.rate if end.reached else None
        ends[f"{name}_error"] = end.error if end.reached else None
        ends[event] = end.event
    followed = [interval.lower.inside, interval.upper.inside]
    return {"interval": ends | {"followed": followed, "accuracy": interval.accuracy}}


def _names(found: "Hunt") -> list[str]:
    return [f"spurious-{i:03d}.npz" for i, _ in enumerate(found.found)]


def files(found: "Hunt", intervals: Intervals, text: str) -> dict[str, bytes]:
    """Make hunt.json and, if minima were found, table.tex and a file for `ufm certify` for each."""
    from ufm.counterexamples.reproducer import reproducing_file
    from ufm.report.phase.table import hunt_table

    stored = zip(_names(found), found.found, strict=True)
    return {
        "hunt.json": text.encode(),
        **({"table.tex": hunt_table(found, intervals).encode()} if found.found else {}),
        # The format of a classifier has no hidden layers.
        **{name: reproducing_file(each) for name, each in stored if not each.problem.lam_hidden},
    }


def _sizes(found: "Hunt") -> tuple[tuple[int, ...], tuple[int, ...]]:
    return found.space.num_classes, found.space.hidden_layers


def drawn(found: "Hunt") -> dict[str, bytes]:
    """The phase diagram over γ at every K of the search, with the minima found, or over depth."""
    import numpy as np

    from ufm.cli.output.progress import waiting
    from ufm.counterexamples.phases import focal_phases
    from ufm.losses import Focal
    from ufm.report import depth_files, phases_files
    from ufm.variants.deep.phases import deep_phases

    if any(found.space.hidden_layers):
        decays, loss = np.geomspace(*_DEPTH_DECAYS), found.space.losses[0]
        each = itertools.product(*(sorted(set(x)) for x in _sizes(found)))
        with waiting("drawing"):
            diagrams = [deep_phases(K, layers + 2, decays, loss) for K, layers in each]
            return {f"figures/{name}": x for name, x in depth_files(diagrams)}

    gammas = [float(loss.gamma) for loss in found.space.losses if isinstance(loss, Focal)]
    over_gamma = np.linspace(0.05, 1.6 * max(*gammas, 0.1), 200)
    with waiting("drawing"):
        phases = [focal_phases(over_gamma, float(K)) for K in sorted(set(found.space.num_classes))]
        return {f"figures/{name}": x for name, x in phases_files(phases, found.found)}
