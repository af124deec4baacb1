"""Garrod & Keating (2025): cross-entropy with more linear layers."""

import jax
import numpy as np

from ufm.certificates.certificate import Verdict, certify
from ufm.losses import CrossEntropy
from ufm.minimum.structures import TableLoss, minimum_of, structures
from ufm.model.problem import Problem
from ufm.reproduce.checks import least
from ufm.reproduce.claim import Claim, Finding, Paper, Row
from ufm.runs.many_starts import verify
from ufm.variants.deep.minimiser import balanced_factors

_CLASSES, _PER_CLASS, _DECAY, _STARTS = 10, 5, 2.0**-10, 5


def _problem(layers: int) -> Problem:
    return Problem.balanced(
        loss=CrossEntropy(),
        num_classes=_CLASSES,
        per_class=_PER_CLASS,
        dim=_CLASSES,
        lam_w=_DECAY,
        lam_h=_DECAY,
        lam_b=None,
        lam_hidden=(_DECAY,) * (layers - 1),
    )


def _collapsed_value(layers: int) -> float:
    """Deep collapse: min over s of log(1+(K−1)e^{−s}) + (M/2) λ (K−1) (√n s)^{2/M}."""
    factors, K = layers + 1, _CLASSES

    def value(s: float) -> float:
        penalty = factors / 2 * _DECAY * (K - 1) * (_PER_CLASS**0.5 * s) ** (2 / factors)
        return float(np.log1p((K - 1) * np.exp(-s)) + penalty)

    return least(value, 2.0, 40.0)[1]


def not_optimal() -> Finding:
    """Runs against the value of deep collapse, from its one-scalar formula by SciPy."""
    rows: list[Row] = []
    for layers in (2, 3):
        found = verify(_problem(layers), jax.random.key(0), _STARTS)
        values, collapsed = np.asarray(found.solutions.value), _collapsed_value(layers)
        name = f"{layers} layers"
        rows += [
            Row(f"{name}: f of deep collapse", collapsed),
            Row(f"{name}: lowest f", float(values.min())),
            Row(f"{name}: runs of {_STARTS} below it", int(np.sum(values < collapsed)), _STARTS),
        ]
    return Finding(tuple(rows))


def persists() -> Finding:
    """Is the collapsed point a local minimum, by all eigenvalues of its Hessian?"""
    rows = []
    for layers in (2, 3):
        problem, factors = _problem(layers), layers + 1
        decay = _DECAY * _PER_CLASS ** (1 / factors)
        table = TableLoss(CrossEntropy(), _CLASSES)
        frame = minimum_of(next(iter(structures(_CLASSES, _CLASSES))), table, factors, decay)
        if frame is None:
            return Finding((), "no critical point of deep collapse was found")
        point = balanced_factors(problem, frame.table, None, jax.random.key(0), _CLASSES - 1)
        found = certify(problem, point)
        is_local = int(found.verdict is Verdict.LOCAL_MINIMUM)
        rows += [
            Row(f"{layers} layers: f", float(found.value), _collapsed_value(layers), 1e-9),
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
            "K=10, n=5, λ=2⁻¹⁰, no bias, two and three layers",
            not_optimal,
        ),
        Claim(
            "persists",
            "It persists nevertheless: deep collapse is a local minimum.",
            "not claimed in these words: the abstract says that it is more prevalent in the "
            "landscape than other critical configurations",
            "the same problems, the collapsed critical point",
            persists,
        ),
    ),
)
