"""Dang et al. (2023): deep linear networks, and imbalanced classes under squared error."""

import jax
import numpy as np

from ufm.losses import MSE, CrossEntropy
from ufm.minimum.global_minimum import global_minimum
from ufm.model.objective import objective
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.reproduce.checks import (
    METRIC,
    VALUE,
    certified,
    cosine_row,
    ends,
    farthest,
    least,
    root,
    value_row,
)
from ufm.reproduce.claim import Claim, Finding, Judgement, Paper, Row
from ufm.solvers import solve_many

_COUNTS, _DECAY = (200, 100, 50, 50), 5e-4
#: Between the ties of the simplex ETF and of the origin with a pair of classes and a dead one.
_DEEP = 0.18


def one_layer() -> Finding:
    """Runs of W and H alone."""
    return Finding(_imbalanced(1, 64, 0.1))


def more_layers() -> Finding:
    """Runs with more factors, from larger starts: the origin is a local minimum."""
    return Finding((*_imbalanced(3, 8, 0.5), *_imbalanced(6, 8, 0.6)))


def _imbalanced(layers: int, dim: int, scale: float) -> tuple[Row, ...]:
    """Runs against the scalar problem of each class, which is alone, by SciPy.

    With M = layers + 1 factors z_k is the least (n_k/N)(1−z)²/2 + (M/2) λ (√n_k z)^{2/M}, and every
    factor gives the class the square norm (√n_k z_k)^{2/M}, as decays are equal.
    """
    hidden, factors, total = (_DECAY,) * (layers - 1), layers + 1, sum(_COUNTS)
    problem = Problem(MSE(), _COUNTS, dim, _DECAY, _DECAY, None, lam_hidden=hidden)
    name = f"{layers} layers" if layers > 1 else "1 layer"
    found, proven = certified(problem, name, scale)
    points, first = ends(found), np.cumsum((0, *_COUNTS[:-1]))
    value, rows = 0.0, []
    for k, n in enumerate(_COUNTS):

        def of_class(z: float, n: int = n) -> float:
            penalty = factors / 2 * _DECAY * (n**0.5 * z) ** (2 / factors)
            return n / total * (1 - z) ** 2 / 2 + penalty

        z, lowest = least(of_class, 0.5, 1.0)
        value, length = value + lowest, (n**0.5 * z) ** (2 / factors)
        logits = [
            np.linalg.multi_dot([x.W[k : k + 1], *x.hidden, x.H[:, first[k] : first[k] + 1]])
            for x in points
        ]
        norms = [np.sum(np.asarray(x.W)[k] ** 2) for x in points]
        rows += [
            Row(f"{name}, n={n}: logit of the label", farthest(logits, z), z, METRIC),
            Row(f"{name}, n={n}: ‖w_k‖²", farthest(norms, length), length, METRIC),
        ]
    angles = cosine_row(f"{name}: largest cosine of two classifiers", [x.W for x in points], 0.0)
    return (proven, value_row(f"{name}: f", found, value), *rows[:-2], angles)


def largest_root() -> Finding:
    """The value at the largest root, of two classes of one sample, against the lowest f found.

    With L layers, b = LN(N λ^{L+1})^{1/L} and the loss 1/(x^L + 1) left of a class, stationarity is
    b/n = L x^{L−1}/(x^L + 1)², and f = ½[1/(x^L + 1) + (b/n) x]; f = ½ at the origin.
    """
    L, rows = 3, []

    def ratio(x: float) -> float:
        return L * x ** (L - 1) / (x**L + 1) ** 2

    def value(x: float) -> float:
        return 0.5 * (1 / (x**L + 1) + ratio(x) * x)

    top, most = least(lambda x: -ratio(x), 0.1, 2.0)
    tie = root(lambda x: value(x) - 0.5, top, 3.0)
    for level in (0.5, 0.55, 0.8):
        claimed = value(root(lambda x, level=level: ratio(x) - level, top, 10.0))
        decay = ((level / (2 * L)) ** L / 2) ** (1 / (L + 1))
        problem = Problem(MSE(), (1, 1), 4, decay, decay, None, lam_hidden=(decay,) * (L - 1))
        found = solve_many(problem, jax.random.key(0), num_starts=5, scale=0.6)
        origin = jax.tree.map(lambda x: 0 * x, init_params(problem, jax.random.key(0)))
        lowest = min(float(np.min(found.value)), float(objective(problem, origin)))
        rows.append(Row(f"b/n={level:g}: lowest f", lowest, claimed, VALUE))
    return Finding(
        (
            Row("b/n at which the root ties with the origin", ratio(tie)),
            Row("b/n at which the root ends", -most),
            *rows,
        ),
        remark="between these the root is a local minimum only: the origin is lower",
    )


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
            "more-layers",
            "They are orthogonal in deep linear networks, too.",
            "not claimed in these words: the abstract names the bias-free setting, no depth",
            "three and six layers, n=(200, 100, 50, 50), d=8, all decays 5e-4",
            more_layers,
        ),
        Claim(
            "largest-root",
            "In deep linear networks each class has the largest root of its scalar equation, "
            "wherever there is one.",
            "not claimed: the abstract has no equation, and the theorem was not read",
            "three layers, n=(1, 1), d=4, equal decays that make b/n 0.5, 0.55 and 0.8",
            largest_root,
            Judgement.REFUTED,
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
