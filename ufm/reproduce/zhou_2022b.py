"""Zhou et al. (2022b): squared error."""

import numpy as np

from ufm.losses import MSE
from ufm.reproduce.checks import SEARCHED, VALUE, benign, searched
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_K, _N, _DECAY, _LAM_B = 4, 10, 5e-3, 0.01


def landscape() -> Finding:
    """A census against the complete list of critical values, one for each rank r.

    In the formula r of K − 1 singular values σ = √n of the targets shrink to s = σ − Nμ:
    f = r[(s − σ)²/2N + μs] + (K−1−r)σ²/2N + λ_b/(2K(1+λ_b)), the last from the bias.
    """
    total, sigma = _K * _N, _N**0.5
    s = sigma - total * _DECAY
    alive = (s - sigma) ** 2 / (2 * total) + _DECAY * s
    dead, bias = sigma**2 / (2 * total), _LAM_B / (2 * _K * (1 + _LAM_B))
    claimed = [r * alive + (_K - 1 - r) * dead + bias for r in range(_K)]
    census = searched(MSE())
    values = np.array([point.value for point in census.points])
    known = [float(values[np.argmin(np.abs(values - x))]) for x in claimed]
    rows = [Row(f"f at rank {r}", known[r], claimed[r], VALUE) for r in range(_K)]
    count = Row("critical values found", len(values), _K)
    return Finding((*benign([x.verdict for x in census.points]), count, *rows))


PAPER = Paper(
    key="zhou-2022b",
    reference="Zhou, Li, Ding, You, Qu, Zhu: On the Optimization Landscape of Neural Collapse "
    "under MSE Loss: Global Optimality with Unconstrained Features (ICML 2022)",
    arxiv="2203.01238",
    read="only the abstract was read",
    claims=(
        Claim(
            "landscape",
            "The only global minimisers under MSE are neural collapse, and all other critical "
            "points are strict saddles.",
            "abstract",
            SEARCHED,
            landscape,
        ),
    ),
)
