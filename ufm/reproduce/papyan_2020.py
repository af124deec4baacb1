"""Papyan (2020): classes and cross-classes in the spectrum of the Hessian."""

import math

import numpy as np
from jaxtyping import Float

from ufm.hessian import dense_hessian
from ufm.losses import CrossEntropy
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.reproduce.checks import METRIC, certified, ends, farthest
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_K, _N, _DIM, _DECAY, _LAM_B = 10, 2, 10, 5e-3, 0.01


def _problem(lam_b: float | None) -> Problem:
    decays = {"lam_w": _DECAY, "lam_h": _DECAY, "lam_b": lam_b}
    return Problem.balanced(loss=CrossEntropy(), num_classes=_K, per_class=_N, dim=_DIM, **decays)


def outliers() -> Finding:
    """All eigenvalues of ∂²L/∂W² where runs end, against the levels of a collapsed point.

    There h_k = t Mᵀe_k, MMᵀ = P, and probabilities are p on the label and q = (1−p)/(K−1) on
    the others. ∂²L/∂W² = (1/K) Σ_k S_k ⊗ h_k h_kᵀ, S_k = diag(p_k) − p_k p_kᵀ, becomes
    (t²/K)[q + q(Kp − 1) K/(K−1) D] on matrices X with zero sums of rows and columns, where D keeps
    the diagonal of X. D has the eigenvalues (K−1)/K once and (K−2)/K, K−1 times, on P e_k e_kᵀ P
    (the classes), and 0 (cross-classes).
    """
    problem = _problem(None)
    found, proven = certified(problem)
    price = _DECAY * _N**0.5  # q = μ√n at the minimum, and t² = ρ/√n
    p, rho = 1 - (_K - 1) * price, math.log(1 / price - _K + 1)
    cross = rho / _N**0.5 / _K * price
    classes = [cross * (1 + (_K * p - 1) * x / (_K - 1)) for x in (_K - 1, _K - 2)]
    spectra, shares = [], []
    for point in ends(found):
        hessian = dense_hessian(problem, point, "gauss_newton")[: _K * _DIM, : _K * _DIM]
        values, vectors = np.linalg.eigh(hessian)
        spectra.append(values[::-1])
        means = _class_means(point)
        shares.append(np.sum((means @ vectors[:, -1]) ** 2) / values[-1])
    rank = (_K - 1) ** 2
    gaps = [1 + int(np.argmax(x[: rank - 1] / x[1:rank])) for x in spectra]

    biased = f"with λ_b={_LAM_B:g}"
    again, proven_again = certified(_problem(_LAM_B), biased)
    whole = np.linalg.eigvalsh(dense_hessian(again.problem, ends(again)[0]))

    def level(name: str, part: slice, claimed: float) -> Row:
        ours = farthest([x[part] for x in spectra], claimed)
        return Row(name, ours, claimed, METRIC * classes[0])

    return Finding(
        (
            proven,
            level("classes, 1 eigenvalue", slice(0, 1), classes[0]),
            level(f"classes, {_K - 1} eigenvalues", slice(1, _K), classes[1]),
            level(f"cross-classes, {rank - _K} eigenvalues", slice(_K, rank), cross),
            level("all others", slice(rank, None), 0.0),
            Row("outliers, above the largest ratio of neighbours", max(gaps), _K),
            Row(
                "share of the class means in the largest eigenvalue",
                farthest(shares, p),
                p,
                METRIC,
            ),
            proven_again,
            Row(
                f"{biased}: multiplicity of the largest eigenvalue of ∇²f",
                int(np.sum(whole > whole[-1] * (1 - METRIC))),
                _K - 1,
            ),
        ),
        remark="levels of classes are nearly K times that of cross-classes",
    )


def _class_means(point: Params) -> Float[np.ndarray, "K Kd"]:
    """√w_c δ_c, the means of a second-moment matrix of gradients, which is ∂²L/∂W².

    It is (1/N) Σ_i Σ_j p_j (p − e_j)(p − e_j)ᵀ ⊗ h_i h_iᵀ; w_c = (1/K) Σ_{j≠c} p_j, and δ_c is the
    mean of (p − e_j) ⊗ h over the labels j ≠ c with the weights p_j.
    """
    W, H = np.asarray(point.W), np.asarray(point.H)[:, ::_N]
    odds = np.exp(W @ H)
    p = odds / odds.sum(axis=0)
    rows = []
    for c in range(_K):
        rest = np.where(np.arange(_K) == c, 0.0, p[:, c])
        mean = p[:, c] - rest / rest.sum()
        rows.append(np.sqrt(rest.sum() / _K) * np.outer(mean, H[:, c]).ravel())
    return np.array(rows)


PAPER = Paper(
    key="papyan-2020",
    reference="Papyan: Traces of Class/Cross-Class Structure Pervade Deep Learning Spectra "
    "(JMLR 2020)",
    arxiv="2008.11865",
    read="only the abstract was read",
    claims=(
        Claim(
            "class-outliers",
            "Outliers of the Hessian and bumps beside them come from a structure of classes and "
            "cross-classes.",
            "abstract, of networks, which counts none; the levels follow from the model here",
            f"CE, K=d={_K}, n={_N}, λ_W=λ_H={_DECAY:g}, no bias: the Hessian of the loss in W, "
            "and with a bias that of f",
            outliers,
        ),
    ),
)
