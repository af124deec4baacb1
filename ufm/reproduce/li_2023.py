"""Li et al. (2023): several labels for a sample, cross-entropy summed over them."""

import itertools
import math

import numpy as np

from ufm.collapse.target_metrics import target_metrics
from ufm.losses import CrossEntropy
from ufm.model.problem import Problem
from ufm.reproduce.checks import METRIC, certified, cosine_row, ends, root, value_row
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_K, _MU = 4, 0.01
#: Samples for every label, and for every pair of labels.
_SAMPLES = {1: 5, 2: 2}


def tag_average() -> Finding:
    """Runs against the minimum over logits a_m P1_S for every set S of m labels."""
    sets = [x for m in _SAMPLES for x in itertools.combinations(range(_K), m)]
    targets = np.array([np.isin(np.arange(_K), x).astype(float) for x in sets])
    counts = tuple(_SAMPLES[len(x)] for x in sets)
    problem = Problem(CrossEntropy(), counts, _K + 1, _MU, _MU, None, targets=targets)
    found, proven = certified(problem)
    points = ends(found)
    averages = max(target_metrics(problem, x).tag_average for x in points)
    return Finding(
        (
            proven,
            value_row("f", found, _least()),
            Row("distance of means of pairs from scaled averages", averages, 0.0, METRIC),
            cosine_row("cosine of two classifiers", [x.W for x in points], -1 / (_K - 1)),
        )
    )


def _least() -> float:
    """f* = Σ_m (N_m/N) m log(m + (K−m)e^{−a_m}) + μ(K−1)τ, a_m(m e^{a_m} + K − m) = Kτ/(Nμ).

    N_m = n_m·C(K, m) samples have m labels, and τ² = Σ_m n_m C(K−2, m−1) a_m².
    """
    total = sum(n * math.comb(_K, m) for m, n in _SAMPLES.items())

    def margins(tau: float) -> dict[int, float]:
        pull = _K * tau / (total * _MU)
        return {
            m: root(lambda a, m=m: a * (m * math.exp(a) + _K - m) - pull, 0.0, 30.0)
            for m in _SAMPLES
        }

    def size(tau: float) -> float:
        squares = (n * math.comb(_K - 2, m - 1) * margins(tau)[m] ** 2 for m, n in _SAMPLES.items())
        return math.sqrt(sum(squares))

    tau = root(lambda x: size(x) - x, 1e-3, 100.0)
    losses = (
        n * math.comb(_K, m) / total * m * math.log(m + (_K - m) * math.exp(-margins(tau)[m]))
        for m, n in _SAMPLES.items()
    )
    return sum(losses) + _MU * (_K - 1) * tau


PAPER = Paper(
    key="li-2023",
    reference="Li, Li, Wang, Qu: Neural Collapse in Multi-label Learning with Pick-all-label Loss "
    "(ICML 2024)",
    arxiv="2310.15903",
    read="only the abstract was read",
    claims=(
        Claim(
            "tag-average",
            "Means of features with several labels are scaled averages of those of single labels, "
            "which are simplex ETFs.",
            "abstract",
            "K=4, d=5, 5 samples for each label and 2 for each pair, λ_W=λ_H=0.01, no bias",
            tag_average,
        ),
    ),
)
