"""Hong and Ling (2023): when the small classes merge under cross-entropy.

The authors' code (github.com/WanliHongC/Neural-Collapse: minority_l_main.py, train_utils.py) adds
5l‖W‖² + (l/20)‖H‖² + 0.01‖b‖² to the mean cross-entropy, without ½. With this library's ½ that is
λ_W = 10l, λ_H = l/10, λ_b = 0.02, and μ = √(λ_W λ_H) = l.
"""

import numpy as np

from ufm.losses import CrossEntropy
from ufm.minimum.global_minimum import global_minimum
from ufm.model.problem import Problem
from ufm.reproduce.claim import Claim, Finding, Paper, Row

#: Counts, and the values of l in the README's commands for Figures 5 and 6 on both sides.
_CASES = (((500,) * 5 + (100,) * 5, (0.0033, 0.0039)), ((500,) * 3 + (100,) * 7, (0.0045, 0.0053)))
#: Merged columns of logits agree to the rounding of a certified minimum (gap 1e-12, difference
#: 1e-6 at most); one per mille below the threshold they differ by 1e-2.
_MERGED = 1e-4


def minority_threshold() -> Finding:
    """Certified minima on both sides of l = √n_min/N, one per mille away and on the code's grid."""
    rows, undecided = [], ""
    for counts, grid in _CASES:
        small, name = (
            min(counts),
            f"{counts.count(500)} large and {counts.count(100)} small classes",
        )
        threshold = small**0.5 / sum(counts)
        sides = {0.999 * threshold: False, 1.001 * threshold: True, grid[0]: False, grid[1]: True}
        rows.append(Row(f"{name}: threshold √n_min/N", threshold))
        for level, merged in sorted(sides.items()):
            problem = Problem(CrossEntropy(), counts, 10, 10 * level, level / 10, 0.02)
            minimum = global_minimum(problem)
            undecided = undecided or ("" if minimum.is_exact else minimum.reason)
            spread = np.ptp(minimum.logits[:, -counts.count(small) :], axis=1).max()
            quantity = f"{name}, l={level:.6f}: small classes merged (1) or not (0)"
            rows.append(Row(quantity, float(spread < _MERGED), float(merged)))
    return Finding(tuple(rows), undecided)


PAPER = Paper(
    key="hong-ling-2023",
    reference="Hong, Ling: Neural Collapse for Unconstrained Feature Model under Cross-entropy "
    "Loss with Imbalanced Data (2023)",
    arxiv="2309.09725",
    read="the abstract and the authors' code were read",
    claims=(
        Claim(
            "minority-threshold",
            "A sharp threshold decides whether the small classes collapse to one vector.",
            "abstract; it lies within the grid of decays in the code",
            "n=500 and 100, K=10, decays of the authors' code: μ=l, λ_b=0.02",
            minority_threshold,
        ),
    ),
)
