"""All papers, the choice of claims by name, and the run of one."""

import difflib
import time
from collections.abc import Sequence

from ufm.reproduce import (
    andriopoulos_2024,
    dang_2023,
    dang_2024,
    fang_2021,
    garrod_keating_2025,
    graf_2021,
    hong_ling_2023,
    jiang_2023,
    kini_2024,
    li_2023,
    papyan_2020,
    thrampoulidis_2022,
    tirer_bruna_2022,
    yaras_2022,
    zhao_2026,
    zhou_2022,
    zhou_2022b,
    zhu_2021,
)
from ufm.reproduce.claim import Claim, Paper, Result

#: In the order of their years.
PAPERS: tuple[Paper, ...] = (
    papyan_2020.PAPER,
    zhu_2021.PAPER,
    fang_2021.PAPER,
    graf_2021.PAPER,
    zhou_2022.PAPER,
    zhou_2022b.PAPER,
    tirer_bruna_2022.PAPER,
    thrampoulidis_2022.PAPER,
    yaras_2022.PAPER,
    dang_2023.PAPER,
    hong_ling_2023.PAPER,
    li_2023.PAPER,
    jiang_2023.PAPER,
    andriopoulos_2024.PAPER,
    dang_2024.PAPER,
    kini_2024.PAPER,
    garrod_keating_2025.PAPER,
    zhao_2026.PAPER,
)


def chosen(
    names: Sequence[str] | None, papers: Sequence[Paper] = PAPERS
) -> list[tuple[Paper, Claim]]:
    """Find claims by PAPER or PAPER:CLAIM; None chooses all, no names none.

    Args:
        names: The names, in the order in which to run them.
        papers: Where to look.

    Returns:
        Pairs of a paper and one of its claims, each once.

    Raises:
        ValueError: A name is unknown; the error has the nearest one.
    """
    every = [(paper, claim) for paper in papers for claim in paper.claims]
    if names is None:
        return every
    found: list[tuple[Paper, Claim]] = []
    for name in names:
        matches = [x for x in every if name in (x[0].key, f"{x[0].key}:{x[1].name}")]
        if not matches:
            raise ValueError(f"there is no claim {name!r}: {_nearest(name, every)}")
        found += [x for x in matches if x not in found]
    return found


def _nearest(name: str, every: Sequence[tuple[Paper, Claim]]) -> str:
    known = [paper.key for paper, _ in every] + [f"{p.key}:{c.name}" for p, c in every]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = "`ufm reproduce` without a name lists them"
    return f"did you mean {near[0]}? {listed}" if near else listed


def run(paper: Paper, claim: Claim) -> Result:
    """Check a claim. This takes between a second and a minute."""
    start = time.perf_counter()
    finding = claim.check()
    return Result(paper, claim, finding, time.perf_counter() - start)
