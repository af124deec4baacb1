"""Tirer and Bruna (2022): squared error without a bias."""

from ufm.collapse.metrics import class_means
from ufm.losses import MSE
from ufm.reproduce.checks import USUAL, certified, cosine_row, ends, usual, value_row
from ufm.reproduce.claim import Claim, Finding, Paper

_K, _N, _DECAY = 10, 100, 5e-4


def orthogonal_frame() -> Finding:
    """Runs without a bias: Z = ρ·(one-hot labels), ρ = 1 − Kμ√n, f* = K[(1−ρ)²/2K + μ√n ρ]."""
    problem = usual(MSE(), lam_b=None)
    found, proven = certified(problem)
    rho = 1.0 - _K * _DECAY * _N**0.5
    sets = [y for x in ends(found) for y in (class_means(problem, x).T, x.W)]
    claimed = (1.0 - rho) ** 2 / 2 + _K * _DECAY * _N**0.5 * rho
    return Finding(
        (
            proven,
            value_row("f", found, claimed),
            cosine_row("largest cosine of two class means or two classifiers", sets, 0.0),
        ),
        remark=f"the simplex ETF has cosines −1/{_K - 1}",
    )


PAPER = Paper(
    key="tirer-bruna-2022",
    reference="Tirer, Bruna: Extended Unconstrained Features Model for Exploring Deep Neural "
    "Collapse (ICML 2022)",
    arxiv="2202.08087",
    read="only the abstract was read",
    claims=(
        Claim(
            "orthogonal-frame",
            "Minimisers under MSE without a bias have another structure than under CE: orthogonal "
            "frames.",
            "abstract, which says “a more delicate structure”",
            f"{USUAL}, no bias",
            orthogonal_frame,
        ),
    ),
)
