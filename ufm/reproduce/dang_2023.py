"""Dang et al. (2023): deep linear networks, and imbalanced classes under squared error."""

import numpy as np

from ufm.losses import MSE, CrossEntropy
from ufm.minimum.global_minimum import global_minimum
from ufm.model.problem import Problem
from ufm.reproduce.checks import (
    METRIC,
    VALUE,
    certified,
    cosines,
    ends,
    farthest,
    highest_value,
    least,
)
from ufm.reproduce.claim import Claim, Finding, Judgement, Paper, Row

_COUNTS, _DECAY = (200, 100, 50, 50), 5e-4
#: Between the ties of the simplex ETF and of the origin with a pair of classes and a dead one.
_DEEP = 0.18


def one_layer() -> Finding:
    """Runs against z_k = 1 − Nμ/√n_k and ‖w_k‖² = √n_k − Nμ (equal decays).

    Each class is alone: f* = Σ_k (n_k/N)(1 − z_k)²/2 + μ√n_k z_k.
    """
    problem = Problem(MSE(), _COUNTS, 64, _DECAY, _DECAY, None)
    found, proven = certified(problem)
    sizes, total = np.asarray(_COUNTS, float), float(sum(_COUNTS))
    logits = 1.0 - total * _DECAY / np.sqrt(sizes)
    value = float(np.sum(sizes / total * (1 - logits) ** 2 / 2 + _DECAY * np.sqrt(sizes) * logits))
    points = ends(found)
    first = np.cumsum((0, *_COUNTS[:-1]))
    rows = [proven, Row("f", highest_value(found), value, VALUE)]
    for k, n in enumerate(_COUNTS[:3]):
        own = [np.asarray(x.W)[k] @ np.asarray(x.H)[:, first[k]] for x in points]
        lengths = [np.sum(np.asarray(x.W)[k] ** 2) for x in points]
        claimed, length = float(logits[k]), float(n**0.5 - total * _DECAY)
        rows += [
            Row(f"n={n}: logit of the label", farthest(own, claimed), claimed, METRIC),
            Row(f"n={n}: ‖w_k‖²", farthest(lengths, length), length, METRIC),
        ]
    angles = farthest([cosines(x.W) for x in points], 0.0)
    return Finding((*rows, Row("largest cosine of two classifiers", angles, 0.0, METRIC)))


def cross_entropy() -> Finding:
    """The proven minimum of three classes and three factors against that of deep collapse.

    Deep collapse: min over s of log(1+2e^{−s}) + (3/2) λ · 2 s^{2/3}, by SciPy.
    """
    problem = Problem(CrossEntropy(), (1, 1, 1), 3, _DEEP, _DEEP, None, lam_hidden=(_DEEP,))
    minimum = global_minimum(problem)

    def collapsed(s: float) -> float:
        return float(np.log1p(2 * np.exp(-s)) + 3 * _DEEP * s ** (2 / 3))

    _, claimed = least(collapsed, 0.5, 10.0)
    remark = f"the minimiser is {minimum.kind}: {minimum.reason}"
    undecided = "" if minimum.is_exact else minimum.reason
    return Finding((Row("f*", minimum.value, claimed, VALUE),), undecided, remark)


PAPER = Paper(
    key="dang-2023",
    reference="Dang, Tran, Osher, Tran-The, Ho, Nguyen: Neural Collapse in Deep Linear Networks: "
    "From Balanced to Imbalanced Data (ICML 2023)",
    arxiv="2301.00437",
    read="only the abstract was read",
    claims=(
        Claim(
            "imbalanced-mse",
            "Under MSE without a bias, features and classifiers of imbalanced classes are "
            "orthogonal, with lengths that depend on the class sizes.",
            "abstract",
            "one layer, n=(200, 100, 50, 50), d=64, λ_W=λ_H=5e-4",
            one_layer,
        ),
        Claim(
            "deep-cross-entropy",
            "Under cross-entropy, too, global optima of deep linear networks exhibit neural "
            "collapse across the layers.",
            "abstract; its assumptions were not read",
            "K=3, n=1, three factors, no bias, all decays 0.18",
            cross_entropy,
            Judgement.REFUTED,
        ),
    ),
)
