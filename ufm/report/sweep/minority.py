"""Read the phase diagram of minority collapse from a sweep over class counts and decays."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ufm.minimum.size_geometry import measured
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.report.phase.minority import MinorityPhases, exact_lines, state_of
from ufm.report.sweep.imbalance import stored_point
from ufm.sweep.store import SweepStore

_DECAYS = {"lam_w", "lam_h"}


def phases(store: SweepStore) -> Iterator[MinorityPhases]:
    """Make one for each loss with stored arrays over decays and ratios of two class sizes."""
    table = store.table()
    for loss in dict.fromkeys(table["loss"].tolist()):
        here = table["loss"] == loss
        rows = {name: column[here] for name, column in table.items()}
        varied = {name for name in decisive(rows) if len(np.unique(rows[name])) > 1}
        if not _DECAYS & varied or varied - _DECAYS != {"class_counts"}:
            continue
        specs = [
            ProblemSpec.from_row({name: rows[name][i].item() for name in decisive(rows)})
            for i in range(len(rows["cell"]))
        ]
        large = _large([spec.class_counts for spec in specs])
        points = [*_points(store, rows, specs)]
        if large is None or not points:
            continue
        ratio, mu, state = np.array(points, float).T
        problem = specs[0].problem()
        lines = exact_lines(problem, large, ratio.tolist())
        yield MinorityPhases(problem.loss.label(), ratio, mu, state, lines)


def _large(counts: list[tuple[int, ...]]) -> tuple[bool, ...] | None:
    """Which classes are large; None unless all counts have two sizes, large ones in one place."""
    unequal = {each for each in counts if len(set(each)) > 1}
    masks = {tuple(n == max(each) for n in each) for each in unequal}
    alike = len({max(each) for each in counts}) == len(masks) == 1
    return masks.pop() if alike and all(len(set(each)) == 2 for each in unequal) else None


def _points(
    store: SweepStore, rows: dict[str, np.ndarray], specs: list[ProblemSpec]
) -> Iterator[tuple[Any, ...]]:
    """Ratio, μ and state of each run that is a proven global minimum."""
    for i, spec in enumerate(specs):
        params = stored_point(store, int(rows["cell"][i]))
        if params is None or rows["verdict"][i] != "GLOBAL_MINIMUM":
            continue
        found = measured(spec.problem(), params)
        ratio = max(spec.class_counts) / min(spec.class_counts)
        yield ratio, rows["mu"][i], state_of(found, rows["kind"][i] == "origin")
