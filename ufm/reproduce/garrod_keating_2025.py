"""Garrod & Keating (2025): cross-entropy with more linear layers."""

from collections.abc import Sequence

import jax
import numpy as np

from ufm.certificates.certificate import Verdict, certify
from ufm.losses import CrossEntropy
from ufm.minimum.structures import TableLoss, minimum_of, structures
from ufm.model.problem import Problem
from ufm.reproduce.checks import VALUE, least
from ufm.reproduce.claim import Claim, Finding, Paper, Row
from ufm.solvers import solve_many
from ufm.variants.deep.minimiser import balanced_factors

_PER_CLASS, _DECAY, _STARTS = 5, 2.0**-10, 5
#: Classes and layers. Deep collapse is lowest with one layer, and at K = 4 with two; in the other
#: cases pairs are, but in the last, where yet another point is.
_CASES = ((4, 2), (4, 3), (6, 2), (6, 3), (10, 1), (10, 2), (10, 3))
_LOWER = _CASES[-1:]


def _problem(classes: int, layers: int) -> Problem:
    return Problem.balanced(
        loss=CrossEntropy(),
        num_classes=classes,
        per_class=_PER_CLASS,
        dim=classes,
        lam_w=_DECAY,
        lam_h=_DECAY,
        lam_b=None,
        lam_hidden=(_DECAY,) * (layers - 1),
    )


def collapsed_value(K: int, layers: int) -> float:
    """Deep collapse: min over s of log(1+(K−1)e^{−s}) + (M/2) λ (K−1) (√n s)^{2/M}, M factors."""
    factors = layers + 1

    def value(s: float) -> float:
        penalty = factors / 2 * _DECAY * (K - 1) * (_PER_CLASS**0.5 * s) ** (2 / factors)
        return float(np.log1p((K - 1) * np.exp(-s)) + penalty)

    return least(value, 2.0, 40.0)[1]


def paired_value(K: int, layers: int) -> float:
    """K/2 antipodal pairs: log(1+(K−2)e^{−R}+e^{−2R}) + (M/2) λ (K/2) (2√n R)^{2/M}."""
    factors = layers + 1

    def value(R: float) -> float:
        penalty = factors / 2 * _DECAY * (K / 2) * (2 * _PER_CLASS**0.5 * R) ** (2 / factors)
        return float(np.log1p((K - 2) * np.exp(-R) + np.exp(-2 * R)) + penalty)

    return least(value, 2.0, 40.0)[1]


def not_optimal(cases: Sequence[tuple[int, int]] = _CASES) -> Finding:
    """Runs against deep collapse and pairs of classes, each from a formula of one scalar by SciPy.

    The lowest run is claimed to end at the lower of both: below deep collapse where pairs are.
    """
    rows: list[Row] = []
    for K, layers in cases:
        found = solve_many(_problem(K, layers), jax.random.key(0), num_starts=_STARTS)
        lowest = float(np.min(np.asarray(found.value)))
        collapsed, pairs = collapsed_value(K, layers), paired_value(K, layers)
        name = f"K={K}, {layers} layers" if layers > 1 else f"K={K}, 1 layer"
        below = Row(
            f"{name}: a run ends below deep collapse (1) or not (0)",
            int(lowest < collapsed - VALUE),
            int(pairs < collapsed),
        )
        rows += [
            Row(f"{name}: f of deep collapse", collapsed),
            Row(f"{name}: f of {K // 2} pairs of classes", pairs),
            Row(
                f"{name}: lowest f of {_STARTS} runs",
                lowest,
                None if (K, layers) in _LOWER else min(collapsed, pairs),
                VALUE,
            ),
            below,
        ]
    return Finding(tuple(rows))


def persists() -> Finding:
    """Is the collapsed point a local minimum, by all eigenvalues of its Hessian?"""
    rows, K = [], 10
    for layers in (2, 3):
        problem, factors = _problem(K, layers), layers + 1
        decay = _DECAY * _PER_CLASS ** (1 / factors)
        table = TableLoss(CrossEntropy(), K)
        frame = minimum_of(next(iter(structures(K, K))), table, factors, decay)
        if frame is None:
            return Finding((), "no critical point of deep collapse was found")
        point = balanced_factors(problem, frame.table, None, jax.random.key(0), K - 1)
        found = certify(problem, point)
        is_local = int(found.verdict is Verdict.LOCAL_MINIMUM)
        rows += [
            Row(f"{layers} layers: f", float(found.value), collapsed_value(K, layers), VALUE),
            Row(f"{layers} layers: deep collapse is a certified local minimum", is_local, 1),
        ]
    return Finding(tuple(rows))


PAPER = Paper(
    key="garrod-keating-2025",
    reference="Garrod, Keating: The Persistence of Neural Collapse Despite Low-Rank Bias "
    "(NeurIPS 2025)",
    arxiv="2410.23169",
    read="only the abstract was read",
    claims=(
        Claim(
            "not-optimal",
            "In deep unconstrained feature models under cross-entropy, deep neural collapse is not "
            "generally optimal.",
            "abstract; more linear layers here",
            "K=4, 6 and 10, n=5, λ=2⁻¹⁰, no bias, one to three layers",
            not_optimal,
        ),
        Claim(
            "persists",
            "It persists nevertheless: deep collapse is a local minimum.",
            "not claimed in these words: the abstract says that it is more prevalent in the "
            "landscape than other critical configurations",
            "K=10, two and three layers, the collapsed critical point",
            persists,
        ),
    ),
)
