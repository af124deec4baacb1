"""Dang et al. (2024): cross-entropy, features after a ReLU, imbalanced classes, no bias."""

import jax
import numpy as np

from ufm.certificates.certificate import Verdict, certify
from ufm.losses import CrossEntropy
from ufm.model.constraints import NonNegative
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.reproduce.checks import METRIC, VALUE, root
from ufm.reproduce.claim import Claim, Finding, Paper, Row
from ufm.variants.nonnegative import merged_solve

_COUNTS, _DECAY = (400, 100, 25, 4), 3.2e-3
_LARGER = 3.4e-3


def _problem(decay: float) -> Problem:
    return Problem(CrossEntropy(), _COUNTS, 6, decay, decay, None, features=NonNegative())


def _margins(decay: float) -> list[float]:
    """The s_k ≥ 0 of least log(1+(K−1)e^{−s}) + c_k s, c_k = Nμ√((K−1)/(K n_k)), by SciPy."""
    K, total = len(_COUNTS), sum(_COUNTS)
    found = []
    for n in _COUNTS:
        price = total * decay * ((K - 1) / (K * n)) ** 0.5

        def slope(s: float, price: float = price) -> float:
            return price - (K - 1) / (K - 1 + float(np.exp(s)))

        found.append(root(slope, 0.0, 50.0) if slope(0.0) < 0 else 0.0)
    return found


def _rows(decay: float) -> tuple[list[Row], bool]:
    """A certified point at a decay against the margins; whether it is certified."""
    problem, K, total = _problem(decay), len(_COUNTS), sum(_COUNTS)
    end = merged_solve(problem, init_params(problem, jax.random.key(0))).params
    proven = certify(problem, end)
    first = np.cumsum((0, *_COUNTS[:-1]))
    means, W = np.asarray(end.H)[:, first].T, np.asarray(end.W)
    rows, value = [], 0.0
    for k, (n, s) in enumerate(zip(_COUNTS, _margins(decay), strict=True)):
        price = total * decay * ((K - 1) / (K * n)) ** 0.5
        value += n / total * (float(np.log1p((K - 1) * np.exp(-s))) + price * s)
        logits = W @ means[k]
        margin = float(logits[k] - np.delete(logits, k).mean())
        rows.append(Row(f"μ={decay:g}, n={n}: margin", margin, s, METRIC))
    products = float(np.max(np.abs((means @ means.T)[~np.eye(K, dtype=bool)])))
    rows += [
        Row(f"μ={decay:g}: f", float(proven.value), value, VALUE),
        Row(f"μ={decay:g}: largest product of two class means", products, 0.0, METRIC),
    ]
    return rows, proven.verdict is Verdict.GLOBAL_MINIMUM


def orthogonal_means() -> Finding:
    """Certified points on both sides of the decay at which the smallest class dies."""
    rows, proven = [], True
    for decay in (_DECAY, _LARGER):
        found, certified = _rows(decay)
        rows, proven = [*rows, *found], proven and certified
    return Finding(tuple(rows), "" if proven else "a run is not certified")


PAPER = Paper(
    key="dang-2024",
    reference="Dang, Tran, Nguyen, Ho: Neural Collapse for Cross-entropy Class-Imbalanced Learning "
    "with Unconstrained ReLU Feature Model (ICML 2024)",
    arxiv="2401.02058",
    read="only the abstract was read",
    claims=(
        Claim(
            "orthogonal-means",
            "Under cross-entropy with ReLU features, class means of imbalanced classes are "
            "orthogonal vectors of different lengths.",
            "abstract; margins from the scalar problem of each class",
            "n=(400, 100, 25, 4), d=6, λ_W=λ_H=3.2e-3 and 3.4e-3, where the smallest class is dead",
            orthogonal_means,
        ),
    ),
)
