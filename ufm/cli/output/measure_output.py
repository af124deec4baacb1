"""The output of `ufm measure`: the metrics as a table, as LaTeX, and as plain values."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from ufm.cli.output.print import say, with_flags

if TYPE_CHECKING:
    from ufm.last_layer.measure import Measurement

#: What is printed: a name, its meaning, and behind the semicolon its value at collapse.
_ROWS = {
    "nc0": ("NC0", "sum of the rows of W, squared norm; 0 at collapse"),
    "nc1": ("NC1", "variability within classes; 0"),
    "nc2": ("NC2", "W against a simplex ETF; 0"),
    "nc3": ("NC3", "W against the class means; 0"),
    "nc4": ("NC4", "share of samples whose nearest class mean is not the argmax; 0"),
    "nc5": ("NC5", "mean |cos| of class means and the mean of other data; 0"),
    "within_between_ratio": (
        "within/between",
        "trace of within-class over between-class scatter; 0",
    ),
    "cdnv": ("CDNV", "variances over squared distances of class means; 0"),
    "mean_norm_spread": ("norms of means", "their relative spread; 0"),
    "weight_norm_spread": ("norms of W", "relative spread of the norms of rows; 0"),
    "cosine_mean": ("cos of means", "centred class means, average over pairs; {etf}"),
    "cosine_std": ("std of cos", "standard deviation over pairs; 0"),
    "cosine_gap": ("gap of cos", "mean distance of these cosines from {etf}; 0"),
    "uncentred_cosine_mean": ("uncentred cos", "class means as they are, average over pairs"),
    "uncentred_cosine_std": ("std of uncentred", "standard deviation over pairs"),
    "gnc2_energy": ("GNC2", "hyperspherical energy of centred class means; {energy}"),
    "gnc2_variance": ("GNC2 variance", "variance of the energy over pairs; 0"),
    "effective_rank": ("effective rank", "of the centred features; {rank}"),
}


def as_dict(found: "Measurement") -> dict[str, Any]:
    """Plain values for JSON."""
    metrics = dataclasses.asdict(found.metrics)
    return metrics | {
        "nc4": found.nc4,
        "class_counts": list(found.class_counts),
        "notes": list(found.notes),
    }


def show(found: "Measurement", command: Any) -> None:
    """Print how the layer was read, then a line for each metric that is defined."""
    from ufm.cli.output.console import show_facts

    counts = found.class_counts
    sizes = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    say(f"K={len(counts)}, N={sum(counts)}, {sizes} a class")
    if found.notes:
        say("Read as:")
    for note in found.notes:
        say(f"  {with_flags(note, command)}")
    show_facts((name, f"{value:.4g}", text) for name, value, text in _rows(found))


def table(found: "Measurement") -> str:
    """A row for each metric that is defined, as LaTeX."""
    from ufm.report.runs.latex import number_in_tex, tabular

    comments = ["Needs \\usepackage{booktabs}."]
    comments += [f"{name}: {text}." for name, _, text in _rows(found)]
    rows = ((name.replace("_", r"\_"), number_in_tex(value, 4)) for name, value, _ in _rows(found))
    return tabular("lr", ("metric", "value"), rows, comments)


def _rows(found: "Measurement") -> list[tuple[str, float, str]]:
    classes = len(found.class_counts)
    at_collapse = {
        "etf": f"{-1 / (classes - 1):.4g}",
        "energy": f"{-0.5 * math.log(2 * classes / (classes - 1)):.4g}",
        "rank": str(classes - 1),
    }
    values = as_dict(found)
    return [
        (name, values[key], text.format(**at_collapse))
        for key, (name, text) in _ROWS.items()
        if math.isfinite(values[key])
    ]
