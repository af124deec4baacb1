"""Kini et al. (2024): the supervised contrastive loss of features after a ReLU."""

import jax
import numpy as np

from ufm.certificates.certificate import Verdict
from ufm.model.constraints import NonNegative
from ufm.reproduce.checks import VALUE, cosine_row, ends, farthest
from ufm.reproduce.claim import Claim, Finding, Paper, Row
from ufm.runs.many_starts import verify
from ufm.variants.contrastive.problem import ContrastiveProblem

_COUNTS, _DIM, _TEMPERATURE, _STARTS = (20, 20, 2, 2), 12, 0.5, 5


def orthogonal_frame() -> Finding:
    """Runs that are proven global minima, against orthogonal class means and f there, by NumPy.

    Runs may end elsewhere: a class that shares a coordinate with another one can be stuck there.
    """
    problem = ContrastiveProblem(_COUNTS, _DIM, _TEMPERATURE, features=NonNegative())
    found = verify(problem, jax.random.key(0), _STARTS)
    counts = np.array(_COUNTS)
    rivals = (counts.sum() - counts) * np.exp(-1 / _TEMPERATURE)
    claimed = float(np.sum(counts * np.log(counts - 1 + rivals)) / counts.sum())
    proven = [v is Verdict.GLOBAL_MINIMUM for v in found.verdicts]
    within, means, values = [], [], []
    for end, value, good in zip(
        ends(found), np.asarray(found.solutions.value), proven, strict=True
    ):
        if good:
            H = np.split(np.asarray(end.H).T, np.cumsum(counts)[:-1])
            within += H
            means.append(np.array([each.mean(axis=0) for each in H]))
            values.append(float(value))
    rows = (
        Row(f"runs of {_STARTS} that end at a proven global minimum", sum(proven)),
        Row("f where runs end", farthest([values], claimed), claimed, VALUE),
        cosine_row("cosine within a class", within, 1.0),
        cosine_row("cosine between classes", means, 0.0),
    )
    return Finding(rows, "" if found.minimum.is_exact else found.minimum.reason)


PAPER = Paper(
    key="kini-2024",
    reference="Kini, Vakilian, Behnia, Gill, Thrampoulidis: Symmetric Neural-Collapse "
    "Representations with Supervised Contrastive Loss: The Impact of ReLU and Batching (ICLR 2024)",
    arxiv="2306.07960",
    read="only the abstract was read",
    claims=(
        Claim(
            "orthogonal-frame",
            "Under class imbalance, too, the global minimisers of the supervised contrastive loss "
            "with entry-wise non-negative features form an orthogonal frame.",
            "abstract",
            f"n={_COUNTS}, d={_DIM}, τ={_TEMPERATURE:g}, features of norm 1, full batch",
            orthogonal_frame,
        ),
    ),
)
