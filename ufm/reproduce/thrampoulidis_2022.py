"""Thrampoulidis et al. (2022): the geometry of imbalanced classes at vanishing regularisation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ufm.losses import CrossEntropy
from ufm.minimum.decay_path import decay_path
from ufm.model.problem import Problem
from ufm.reproduce.checks import METRIC
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_COUNTS = (1000, 1000, 100, 100)
#: The end of the path, and a decay as it is used in training.
_LAST, _USUAL = 4.5454545454545e-11, 4.5454545454545e-5
#: Logits are P L + C + E/L + O(1/L²), L = log(1/μ) = 24 at the end of the path: three points give P
#: up to O(1/L³), and this leaves room for a constant of 24.
_NEAR = 1 / 24**2
#: Ratios of class sizes, and the decay at which they are compared.
_RATIOS, _SMALL = (1, 10, 100, 1000), 1e-5
_NAMES = (
    "‖w‖² of a large class over a small one",
    "cosine of two large classifiers",
    "cosine of a large and a small one",
    "cosine of two small ones",
)


def seli_limit() -> Finding:
    """How certified minima grow with log(1/μ), against P = I − 11ᵀ/K and its SVD.

    With P√D = USVᵀ, D = diag(n_k), SELI has WWᵀ ∝ U S Uᵀ.
    """
    problem = Problem(CrossEntropy(), _COUNTS, 4, 1e-3, 1e-3, None)
    path = decay_path(problem, np.geomspace(1e-3, _LAST, 9).tolist())
    usual = decay_path(problem, [_USUAL])
    grown = -np.log(path.decays[-3:])
    powers = np.stack([grown, np.ones(3), 1 / grown], axis=1)
    slope = np.linalg.solve(powers, path.logits[-3:].reshape(3, -1))[0].reshape(4, 4)
    projection = np.eye(4) - 0.25
    farthest = float(np.abs(slope - projection).max())
    rows = [Row("slope of Z in log(1/μ): farthest entry from P", farthest, 0.0, _NEAR)]
    rows += _rows("slope", slope, projection)
    rows += _rows(f"Z at μ={_LAST:.2g}", path.logits[-1])
    rows += _rows(f"Z at μ={_USUAL:.2g}", usual.logits[0])
    certain = bool(np.all(path.exact)) and bool(np.all(usual.exact))
    return Finding(
        tuple(rows),
        undecided="" if certain else "a point of the path is not certified",
        remark="Z itself approaches SELI as slowly as 1/log(1/μ): at a usual decay angles differ",
    )


def _rows(name: str, logits: np.ndarray, claimed: np.ndarray | None = None) -> list[Row]:
    said = [None] * 4 if claimed is None else _geometry(claimed).tolist()
    pairs = zip(_NAMES, _geometry(logits).tolist(), said, strict=True)
    return [
        Row(f"{name}: {quantity}", ours, x, _NEAR * max(1.0, abs(x or 0.0)))
        for quantity, ours, x in pairs
    ]


def _geometry(logits: np.ndarray) -> Float[np.ndarray, " 4"]:
    """The numbers of `_NAMES` from WWᵀ ∝ (ZDZᵀ)^½."""
    gram = _gram(logits, _COUNTS)
    size = np.sqrt(np.diag(gram))
    cosine = gram / np.outer(size, size)
    return np.array([gram[0, 0] / gram[2, 2], cosine[0, 1], cosine[0, 2], cosine[2, 3]])


def _gram(logits: np.ndarray, counts: Sequence[int]) -> Float[np.ndarray, "4 4"]:
    """(ZDZᵀ)^½, to which WWᵀ is proportional."""
    U, S, _ = np.linalg.svd(logits * np.sqrt(counts))
    return (U * S) @ U.T


def slower() -> Finding:
    """How far WWᵀ of certified minima is from that of SELI, both of norm 1, at one decay."""
    rows, exact, distances = [], True, []
    for ratio in _RATIOS:
        counts = (10 * ratio, 10 * ratio, 10, 10)
        problem = Problem(CrossEntropy(), counts, 4, _SMALL, _SMALL, None)
        path = decay_path(problem, [_SMALL])
        exact &= bool(np.all(path.exact))
        ours, limit = (_gram(x, counts) for x in (path.logits[0], np.eye(4) - 0.25))
        distances.append(
            float(np.linalg.norm(ours / np.linalg.norm(ours) - limit / np.linalg.norm(limit)))
        )
        claimed = 0.0 if ratio == 1 else None
        rows.append(Row(f"R={ratio}: distance of WWᵀ from SELI", distances[-1], claimed, METRIC))
    grows = int(bool(np.all(np.diff(distances) > METRIC)))
    rows.append(Row("the distance grows with R (1) or not (0)", grows, 1))
    return Finding(tuple(rows), "" if exact else "a minimum is not certified")


PAPER = Paper(
    key="thrampoulidis-2022",
    reference="Thrampoulidis, Kini, Vakilian, Behnia: Imbalance Trouble: Revisiting "
    "Neural-Collapse Geometry (NeurIPS 2022)",
    arxiv="2208.05512",
    read="only the abstract was read",
    claims=(
        Claim(
            "seli-limit",
            "At vanishing regularisation logits under CE are a simplex-encoded label matrix, "
            "whatever the class sizes, and its SVD gives the geometry.",
            "abstract",
            "n=(1000, 1000, 100, 100), R=10, no bias; norms and angles of the classifiers",
            seli_limit,
        ),
        Claim(
            "slower",
            "Convergence to that geometry worsens with increasing imbalance; balanced classes have "
            "it at any decay.",
            "abstract, of regularisation; a single decay here",
            f"n=(10R, 10R, 10, 10), λ_W=λ_H={_SMALL:g}, no bias, R from 1 to {_RATIOS[-1]}",
            slower,
        ),
    ),
)
