r"""Trained networks as a table for a paper: booktabs, one row for each loss of each network.

\usepackage{booktabs}
\input{table.tex}
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ufm.losses import parse_loss
from ufm.report.runs.latex import label_in_tex, number_in_tex, tabular

_HEADINGS = (
    "loss",
    "rate",
    r"train (\%)",
    r"test (\%)",
    r"$\mathcal{NC}_1$",
    r"$\mathcal{NC}_2$",
    r"$\mathcal{NC}_3$",
    r"$\|G\|_2/\mu$",
    "shape",
)


def network_table(rows: Sequence[Mapping[str, Any]], comments: Sequence[str] = ()) -> str:
    """Make a `tabular`. A row has `loss`, `settings` of its network by name, `learning_rate`,
    `train_accuracy`, `test_accuracy` and `test_deviation` in percent, the three `nc`, `dual_ratio`
    and `shape_distance`; NaN is "--". Settings that are equal in all rows are omitted."""
    names = [
        name
        for name in rows[0]["settings"]
        if len({str(row["settings"][name]) for row in rows}) > 1
    ]
    described = [
        "NC: of all training images. ||G||/mu: 1 at a minimum of the model for the last layer, its "
        "features centred; shape: relative distance to its nearest minimiser after the best "
        "rescaling. Needs \\usepackage{booktabs}.",
        *comments,
    ]
    headings = (*(name.replace("_", " ") for name in names), *_HEADINGS)
    columns = "r" * len(names) + "l" + "r" * (len(_HEADINGS) - 1)
    return tabular(columns, headings, (_cells(row, names) for row in rows), described)


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    test, deviation = _percent(row["test_accuracy"]), row["test_deviation"]
    if not math.isnan(deviation):
        test += rf" $\pm$ {deviation:.2f}"
    return [
        *(_setting(row["settings"][name]) for name in names),
        label_in_tex(parse_loss(row["loss"]).label()),
        f"{row['learning_rate']:g}",
        _percent(row["train_accuracy"]),
        test,
        *map(number_in_tex, (*row["nc"], row["dual_ratio"], row["shape_distance"])),
    ]


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(value: float) -> str:
    return "--" if math.isnan(value) else f"{value:.2f}"
