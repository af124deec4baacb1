"""Zhu et al. (2021): cross-entropy with weight decay."""

import dataclasses
import math

import jax
import numpy as np

from ufm.collapse.metrics import class_means, simplex_etf
from ufm.losses import CrossEntropy
from ufm.model.constraints import Fixed
from ufm.reproduce.checks import (
    METRIC,
    SEARCHED,
    USUAL,
    benign,
    certified,
    collapsed,
    cosine_row,
    ends,
    farthest,
    searched,
    usual,
    value_row,
)
from ufm.reproduce.claim import Claim, Finding, Paper, Row

#: c = (K−1)μ√n and the size ρ of a trained minimum, (K−1)/(e^ρ + K − 1) = c.
_PRICE = 9 * 5e-4 * 10
_RHO = math.log(9 / _PRICE - 9)


def global_minimisers() -> Finding:
    """Runs against f* = log(1 + (K−1)e^{−ρ}) + cρ, (K−1)/(e^ρ + K − 1) = c = (K−1)μ√n."""
    problem = usual(CrossEntropy())
    found, proven = certified(problem)
    means = [class_means(problem, x).T for x in ends(found)]
    return Finding(
        (
            proven,
            value_row("f", found, math.log1p(9 * math.exp(-_RHO)) + _PRICE * _RHO),
            collapsed(found),
            cosine_row("cosine of two class means farthest from the simplex ETF's", means, -1 / 9),
        )
    )


def landscape() -> Finding:
    """A census at K = 4."""
    return Finding(benign([x.verdict for x in searched(CrossEntropy()).points]))


def fixed_classifier() -> Finding:
    """Runs with W given, a simplex ETF as large as a trained one: are logits those of training?

    A trained minimum has λ_W‖W‖² = λ_H‖H‖² = cρ, so that without ½λ_W‖W‖² f is
    log(1 + (K−1)e^{−ρ}) + ½cρ; rows of the trained W have the square norm cρ/(Kλ_W).
    """
    size = math.sqrt(_PRICE * _RHO / (10 * 5e-4))
    W = size * np.asarray(simplex_etf(jax.random.key(1), 10, 10))
    problem = dataclasses.replace(usual(CrossEntropy()), dim=10, lam_w=None, classifier=Fixed(W))
    found, proven = certified(problem)
    points = ends(found)
    logits = [W @ np.asarray(class_means(problem, x)) for x in points]
    margins = [(np.diag(z) - z)[~np.eye(10, dtype=bool)] for z in logits]
    return Finding(
        (
            proven,
            value_row("f", found, math.log1p(9 * math.exp(-_RHO)) + _PRICE * _RHO / 2),
            Row("margin farthest from that of training", farthest(margins, _RHO), _RHO, METRIC),
            cosine_row(
                "cosine of two class means farthest from the simplex ETF's",
                [class_means(problem, x).T for x in points],
                -1 / 9,
            ),
        )
    )


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
            f"{USUAL}, λ_b=0.01",
            global_minimisers,
        ),
        Claim(
            "landscape",
            "All other critical points are strict saddles.",
            "abstract",
            SEARCHED,
            landscape,
        ),
        Claim(
            "fixed-classifier",
            "Features lose nothing if d = K and the classifier is fixed as a simplex ETF.",
            "abstract, of the accuracy of networks; the margins of the model here",
            "K=d=10, n=100, λ_H=5e-4, λ_b=0.01; W as large as after training with λ_W=5e-4",
            fixed_classifier,
        ),
    ),
)
