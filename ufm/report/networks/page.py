"""A sweep over networks as one HTML page: collapse, the model's view, accuracies, the tests.

All arguments are plain data: `runs` as in `ufm.report.networks.curves` and `comparisons` as in
`ufm.report.networks.grid`, both by variants of the network, which have separate figures; and `rows`
of the table, each with the `settings` of its network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from ufm.report._page import page_style, render, swatch
from ufm.report._svg import panel
from ufm.report._words import span
from ufm.report.networks.curves import (
    ACCURACY,
    COLLAPSE,
    MODEL,
    Quantity,
    Run,
    checked_runs,
    longest_of_each_width,
    loss_looks,
    plot_network_curve,
)
from ufm.report.networks.grid import (
    REFERENCE,
    Comparison,
    accuracy_gaps,
    gap_limit,
    plot_accuracy_gap,
    plot_forest,
)

_TEMPLATE = "networks.html.j2"


def render_networks(
    *,
    title: str,
    conclusions: Sequence[str],
    standing: str,
    rows: Sequence[Mapping[str, Any]],
    variants: Sequence[Mapping[str, Any]],
    normalisation: str,
    margin: float,
    alpha: float,
    config: Mapping[str, Any],
    environments: Sequence[Mapping[str, Any]],
) -> str:
    """Render the page. `standing` is "holds", "short" or "open"; each of `variants` has a `label`,
    empty if it is the only one, and its `runs` and `comparisons`."""
    looks = loss_looks(rows)
    names = [
        name
        for name in rows[0]["settings"]
        if name in ("width", "epochs") or len({str(row["settings"][name]) for row in rows}) > 1
    ]
    with page_style():
        sections = [
            section for i, each in enumerate(variants) for section in _sections(each, f"v{i}")
        ]
        return render(
            _TEMPLATE,
            title=title,
            conclusions=conclusions,
            standing=standing,
            rows=[_worded(row, looks[row["loss"]].label) for row in rows],
            settings=names,
            losses=list(looks),
            reference=REFERENCE,
            total=sum(row["finished"] for row in rows),
            num_cells=sum(row["runs"] for row in rows),
            seconds=sum(row["seconds"] for row in rows),
            squared=_squared_frames(rows),
            normalisation=normalisation,
            margin=margin,
            confidence=100 * (1 - 2 * alpha),
            sections=[section for section in sections if section["groups"]],
            config=config,
            environments=environments,
        )


def _sections(variant: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """All figures of one variant of the network."""
    runs, comparisons = variant["runs"], variant["comparisons"]
    if not runs:
        return []
    checked_runs(runs)
    found = [_curves(runs, title, note, quantities, name) for title, note, quantities in _CURVES]
    losses = {str(run["loss"]) for run in runs}
    if REFERENCE in losses and len(losses) > 1:
        found.append(_gaps(runs, comparisons, name))
    if comparisons:
        found.append(_tests(comparisons, name))
    suffix = f": {variant['label']}" if variant["label"] else ""
    return [section | {"title": section["title"] + suffix} for section in found]


def _worded(row: Mapping[str, Any], label: str) -> dict[str, Any]:
    settings = {
        name: f"{x:g}" if isinstance(x, float) else str(x) for name, x in row["settings"].items()
    }
    return dict(row) | {"label": label, "settings": settings}


def _squared_frames(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The least and the largest NC2 of the model's own minimiser under MSE."""
    values = [row["minimum_nc2"] for row in rows if row["loss"].startswith("mse")]
    known = [x for x in values if np.isfinite(x)]
    return list(dict.fromkeys(f"{x:.2f}" for x in (min(known), max(known)))) if known else []


_CURVES = (
    (
        "Collapse along training",
        "For each width its longest training: every run thin, the median of a loss thick, a mark "
        "at each measurement, dashed lines where the learning rate falls.",
        (*COLLAPSE, ACCURACY),
    ),
    (
        "The last layer beside the model's minimiser",
        "‖G‖/μ is 1 at a minimum; the distance is relative to the size of the nearest minimiser. "
        "Centred: the mean of the features moved to a bias without decay. Under MSE the decay of "
        "the network's own bias keeps its ratio above 1.",
        MODEL,
    ),
)


def _curves(
    runs: Sequence[Run], title: str, note: str, quantities: Sequence[Quantity], name: str
) -> dict[str, Any]:
    shown = [each for each in quantities if _is_known(each.name, runs)]
    groups = [
        {
            "title": f"Width {width:g}, {chosen[0]['epochs']:g} epochs",
            "panels": [
                _panel(
                    f"{name}-{each.name}-{i}",
                    _curve_in_words(each, width, chosen),
                    lambda axes, chosen=chosen, each=each: plot_network_curve(chosen, each, axes),
                )
                for each in shown
            ],
        }
        for i, (width, chosen) in enumerate(longest_of_each_width(runs).items())
    ]
    return {
        "title": title,
        "note": note,
        "legend": _legend(runs),
        "groups": groups if shown else [],
    }


def _curve_in_words(quantity: Quantity, width: Any, runs: Sequence[Run]) -> str:
    """Describe the first and last medians of every loss."""
    said = []
    for spec, look in loss_looks(runs).items():
        own = [np.asarray(run[quantity.name], float) for run in runs if str(run["loss"]) == spec]
        ends = (quantity.scale * float(np.median([x[i] for x in own])) for i in (0, -1))
        said.append(f"{' → '.join(f'{x:.3g}' for x in ends)} under {look.label}")
    return f"Median {quantity.words} along training, width {width:g}: {', '.join(said)}"


def _is_known(name: str, runs: Sequence[Run]) -> bool:
    """Whether every run has the array, and some run a number in it."""
    return all(name in run for run in runs) and any(np.isfinite(run[name]).any() for run in runs)


def _panel(name: str, description: str, draw: Any, caption: str = "") -> dict[str, Any]:
    return {"caption": caption, "svg": panel(name, description, draw)}


def _legend(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, Markup]]:
    return [(label, swatch(look)) for label, look in loss_looks(runs).values()]


def _gaps(runs: Sequence[Run], comparisons: Sequence[Comparison], name: str) -> dict[str, Any]:
    looks = loss_looks(runs)
    losses = [spec for spec in looks if spec != REFERENCE]
    gaps = {loss: accuracy_gaps(runs, loss) for loss in losses}
    limit = gap_limit(gaps.values())
    panels = []
    for i, loss in enumerate(losses):
        outcomes = {
            (each["width"], each["epochs"]): str(each["outcome"])
            for each in comparisons
            if str(each["loss"]) == loss
        }

        def draw(axes: Axes, loss: str = loss, outcomes: Any = outcomes) -> Axes:
            return plot_accuracy_gap(gaps[loss], axes, outcomes, limit)

        described = (
            f"Test accuracy of {looks[loss].label} less that of CE over width and epochs: "
            f"{span(gaps[loss].values, '+.2f')} points"
        )
        panels.append(_panel(f"{name}-gap-{i}", described, draw, looks[loss].label))
    note = (
        "Mean test accuracy of the loss less that of CE, in points: red where CE is ahead, blue "
        "where the loss is. A frame: shown equivalent; a star: significantly different."
    )
    groups = [{"title": "", "panels": panels}]
    return {"title": "Accuracy against CE", "note": note, "legend": [], "groups": groups}


def _tests(comparisons: Sequence[Comparison], name: str) -> dict[str, Any]:
    """A panel for each network and length of training."""
    places = list(dict.fromkeys((each["width"], each["epochs"]) for each in comparisons))
    panels = []
    for i, place in enumerate(places):
        chosen = [each for each in comparisons if (each["width"], each["epochs"]) == place]
        described = "Equivalence tests: " + "; ".join(
            f"{each['loss']} {each['difference']:+.2f} points, {each['outcome']}" for each in chosen
        )

        def draw(axes: Axes, chosen: Any = chosen) -> Axes:
            plot_forest(chosen, axes)
            axes.set(yticks=[], xlabel="test − CE, points")  # the caption shows the place
            return axes

        caption = f"Width {place[0]:g}, {place[1]:g} epochs"
        panels.append(_panel(f"{name}-tests-{i}", described, draw, caption))
    note = (
        "Two one-sided t tests of paired seeds: equivalent where the whole interval lies in the "
        "grey band. A hollow mark claims nothing: it has too few seeds, or no interval."
    )
    groups = [{"title": "", "panels": panels}]
    return {
        "title": "Equivalence tests", "note": note, "legend": _legend(comparisons), "groups": groups
    }  # fmt: skip
