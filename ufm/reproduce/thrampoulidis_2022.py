"""Thrampoulidis et al. (2022): the geometry of imbalanced classes at vanishing regularisation."""

import numpy as np
from jaxtyping import Float

from ufm.losses import CrossEntropy
from ufm.minimum.decay_path import decay_path
from ufm.model.problem import Problem
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_COUNTS = (1000, 1000, 100, 100)
#: The end of the path, and a decay as it is used in training.
_LAST, _USUAL = 4.5454545454545e-11, 4.5454545454545e-5
#: Logits are P L + C + E/L + O(1/L²), L = log(1/μ) = 24 at the end of the path: three points give P
#: up to O(1/L³), and this leaves room for a constant of 24.
_NEAR = 1 / 24**2
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
    U, S, _ = np.linalg.svd(logits * np.sqrt(_COUNTS))
    gram = (U * S) @ U.T
    size = np.sqrt(np.diag(gram))
    cosine = gram / np.outer(size, size)
    return np.array([gram[0, 0] / gram[2, 2], cosine[0, 1], cosine[0, 2], cosine[2, 3]])


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
    ),
)
