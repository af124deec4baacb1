"""Andriopoulos et al. (2024): regression on several numbers."""

import numpy as np

from ufm.collapse.target_metrics import target_metrics
from ufm.losses import MSE
from ufm.model.problem import Problem
from ufm.reproduce.checks import METRIC, certified, ends, farthest, value_row
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_N, _DECAY = 20, 5e-3


def regression_collapse() -> Finding:
    """Runs against the singular values σ of the centred targets: W has squares s = (σ − Nμ)₊."""
    targets = np.random.default_rng(0).standard_normal((_N, 3)) @ np.diag([2.0, 1.0, 0.3])
    problem = Problem(MSE(), (1,) * _N, 5, _DECAY, _DECAY, 0.0, targets=targets)
    found, proven = certified(problem)
    sigma = np.linalg.svd(targets - targets.mean(axis=0), compute_uv=False)
    s = np.maximum(sigma - _N * _DECAY, 0.0)
    value = float(np.sum((s - sigma) ** 2) / (2 * _N) + _DECAY * np.sum(s))
    points = ends(found)
    squares = [np.linalg.svd(np.asarray(x.W), compute_uv=False) ** 2 for x in points]
    metrics = [target_metrics(problem, x) for x in points]
    names = ("nrc1", "nrc2", "nrc3")
    worst = {name: max(float(getattr(x, name)) for x in metrics) for name in names}
    return Finding(
        (
            proven,
            value_row("f", found, value),
            *(Row(name.upper(), worst[name], 0.0, METRIC) for name in names),
            *(
                Row(
                    f"eigenvalue {i + 1} of WWᵀ",
                    farthest([x[i] for x in squares], float(s[i])),
                    float(s[i]),
                    METRIC,
                )
                for i in range(3)
            ),
        )
    )


PAPER = Paper(
    key="andriopoulos-2024",
    reference="Andriopoulos, Dong, Guo, Zhao, Ross: The Prevalence of Neural Collapse in Neural "
    "Multivariate Regression (NeurIPS 2024)",
    arxiv="2409.04180",
    read="only the abstract was read",
    claims=(
        Claim(
            "regression-collapse",
            "With positive decays features collapse to the space of their principal components "
            "(NRC1) and of the classifier (NRC2), and WWᵀ follows the targets' covariance (NRC3).",
            "abstract",
            "20 samples with 3 numbers each, d=5, λ_W=λ_H=5e-3, a free bias",
            regression_collapse,
        ),
    ),
)
