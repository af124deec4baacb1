"""The output of `ufm sweep` for networks: a row per network, length of training and loss."""

import math
from typing import TYPE_CHECKING

from ufm.cli.output.console import plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say
from ufm.cli.output.sweep_table import show_where

if TYPE_CHECKING:
    from ufm.networks.sweeps.equivalence import Equivalence
    from ufm.networks.sweeps.summary import LossRow
    from ufm.sweep import SweepStore


def show_networks(store: "SweepStore") -> None:
    """Print the table, then its meaning in words."""
    from ufm.networks.sweeps.page_contents import normalisations
    from ufm.networks.sweeps.summary import conclusions, shown, summarise, varying

    groups = summarise(store)
    names = varying(groups) or ["width", "epochs"]
    numbers = ("loss", "rate", "train", "test", "NC1", "NC2", "NC3", "test - ce", "")
    table = plain_table((*names, *numbers))
    for group in groups:
        for row in group.rows:
            table.add_row(
                *(shown(group.settings[name]) for name in names),
                row.loss,
                f"{row.learning_rate:g}",
                "—" if math.isnan(row.train_accuracy) else f"{row.train_accuracy:.1f}",
                _accuracy(row),
                *(
                    "—" if math.isnan(fall) else f"÷{fall:.{1 if fall < 10 else 0}f}"
                    for fall in row.falls
                ),
                *_against(row.against),
            )
    show_table(table)
    for group in groups:
        for row in group.rows:
            if not row.is_whole:
                where = ", ".join(f"{name} {shown(group.settings[name])}" for name in names)
                said = f"{row.loss}, {where}: {row.completed} of {row.runs} runs completed"
                say(said)
    say(
        "train: the worst run; test: mean ± standard deviation; NC1-NC3: the smallest fall since "
        "the first epoch; test - ce: mean difference and 90 % interval, in points"
    )
    for line in (*conclusions(groups), normalisations(store)):
        if line:
            say(line)
    show_where(store)


def _accuracy(row: "LossRow") -> str:
    if math.isnan(row.test_accuracy):
        return "—"
    if math.isnan(row.test_deviation):
        return f"{row.test_accuracy:.2f}"
    return f"{row.test_accuracy:.2f} ± {row.test_deviation:.2f}"


def _against(found: "Equivalence | None") -> tuple[str, str]:
    if found is None:
        return "", ""
    interval = "" if math.isnan(found.low) else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.difference:+.2f}{interval}", str(found.outcome)


def networks_json(store: "SweepStore") -> str:
    """The same as JSON."""
    from ufm._support.strict_json import dumps
    from ufm.networks.sweeps.page_contents import normalisations, worded
    from ufm.networks.sweeps.summary import conclusions, summarise

    groups = summarise(store)
    return dumps(
        {
            "folder": str(store.path),
            "cells": store.num_cells,
            "finished": len(store.finished()),
            "conclusions": conclusions(groups),
            "normalisation": normalisations(store),
            "config": store.config,
            "environments": store.environments() or [store.environment],
            "groups": [
                {
                    "settings": group.settings,
                    "losses": [worded(row) for row in group.rows],
                }
                for group in groups
            ],
        }
    )
