"""The table of losses: what `ufm.check_loss` says of each of them at K = 10.

A line `{{ losses }}` of a page becomes the table, with the first `UFM_DOCS_LOSSES` of them if that
is set.
"""

import itertools
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

#: Specs and where they come from, in the order of the table.
LOSSES = {
    "ce": "",
    "temperature:0.5": "Hinton, Vinyals, Dean 2015",
    "ls:0.1": "Szegedy et al. 2016",
    "fl:3": "Lin et al. 2017",
    "poly:2": "Leng et al. 2022",
    "gce:0.7": "Zhang, Sabuncu 2018",
    "sce:0.1,1,-4": "Wang et al. 2019",
    "taylor:2": "Feng et al. 2020",
    "mae": "Ghosh, Kumar, Sastry 2017",
    "brier": "Brier 1950",
    "nl": "Kim et al. 2019",
    "cce": "Kim et al. 2021",
    "cot": "Chen et al. 2019",
    "bitempered:0.8,1.2": "Amid et al. 2019",
    "cs:2": "Crammer, Singer 2001",
    "cs:1": "Crammer, Singer 2001",
    "ww:2": "Weston, Watkins 1999",
    "ww:1": "Weston, Watkins 1999",
    "mse": "",
    "bce": "",
    "logitnorm:1": "Wei et al. 2022",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the line that stands for the table."""
    return re.sub(r"^\{\{ losses \}\}$", lambda _: table(), markdown, flags=re.MULTILINE)


def table() -> str:
    """One row for each loss."""
    import jax

    jax.config.update("jax_enable_x64", True)
    head = ("text", "loss", "contrastive", "minimisation", "convex", "K√nμ*", "jump to p", "source")
    shown = itertools.islice(LOSSES.items(), int(os.environ.get("UFM_DOCS_LOSSES", len(LOSSES))))
    rows = [head, ("---",) * len(head), *itertools.starmap(row, shown)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(spec: str, source: str) -> tuple[str, ...]:
    """What `check_loss` says of one."""
    import math

    from ufm import check_loss

    found = check_loss(spec, num_classes=10, num_starts=0)
    region = re.search(r"p_k ≥ ([\d.]+)", found.convex.how)
    convex = f"p ≥ {region[1]}" if region else found.convex.word
    threshold = found.threshold
    known = "none" if math.isinf(threshold) else f"{threshold:.4f}"
    if found.origin_threshold > threshold:
        known += f"; origin from {found.origin_threshold:.4f}"
    jump = f"{found.jump_probability:.3f}" if found.jumps else "no"
    return (
        f"`{spec}`",
        found.loss.label(),
        found.contrastive.word,
        found.minimisation.word,
        convex,
        known,
        jump if math.isfinite(threshold) else "–",
        source,
    )
