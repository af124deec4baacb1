"""Dang et al. (2023): squared error, imbalanced classes, no bias; here with one linear layer."""

import numpy as np

from ufm.losses import MSE
from ufm.model.problem import Problem
from ufm.reproduce.checks import METRIC, VALUE, certified, cosines, ends, farthest, highest_value
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_COUNTS, _DECAY = (200, 100, 50, 50), 5e-4


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
    ),
)
