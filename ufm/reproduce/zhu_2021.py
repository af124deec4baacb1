"""Zhu et al. (2021): cross-entropy with weight decay."""

import math

from ufm.collapse.metrics import class_means
from ufm.losses import CrossEntropy
from ufm.model.problem import Problem
from ufm.reproduce.checks import (
    METRIC,
    VALUE,
    benign,
    certified,
    collapsed,
    cosines,
    ends,
    farthest,
    highest_value,
    searched,
)
from ufm.reproduce.claim import Claim, Finding, Paper, Row


def global_minimisers() -> Finding:
    """Runs against f* = log(1 + (K−1)e^{−ρ}) + cρ, (K−1)/(e^ρ + K − 1) = c = (K−1)μ√n."""
    problem = Problem.balanced(
        loss=CrossEntropy(),
        num_classes=10,
        per_class=100,
        dim=16,
        lam_w=5e-4,
        lam_h=5e-4,
        lam_b=0.01,
    )
    c = 9 * 5e-4 * 10
    rho = math.log(9 / c - 9)
    found, proven = certified(problem)
    worst = farthest([cosines(class_means(problem, x).T) for x in ends(found)], -1 / 9)
    return Finding(
        (
            proven,
            Row("f", highest_value(found), math.log1p(9 * math.exp(-rho)) + c * rho, VALUE),
            collapsed(found),
            Row("cosine of two class means farthest from the simplex ETF's", worst, -1 / 9, METRIC),
        )
    )


def landscape() -> Finding:
    """A census at K = 4."""
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=4, per_class=10, dim=5, lam_w=5e-3, lam_h=5e-3, lam_b=0.01
    )
    return Finding(benign([x.verdict for x in searched(problem).points]))


PAPER = Paper(
    key="zhu-2021",
    reference="Zhu, Ding, Zhou, Li, You, Sulam, Qu: A Geometric Analysis of Neural Collapse with "
    "Unconstrained Features (NeurIPS 2021)",
    arxiv="2105.02375",
    read="only the abstract was read",
    claims=(
        Claim(
            "global-minimisers",
            "The only global minimisers of cross-entropy with weight decay are simplex ETFs.",
            "abstract",
            "K=10, d=16, n=100, λ_W=λ_H=5e-4, λ_b=0.01",
            global_minimisers,
        ),
        Claim(
            "landscape",
            "All other critical points are strict saddles.",
            "abstract",
            "K=4, d=5, n=10, λ_W=λ_H=5e-3, λ_b=0.01: a census of critical points",
            landscape,
        ),
    ),
)
