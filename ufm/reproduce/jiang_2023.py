"""Jiang et al. (2023): more classes than dimensions, features and classifiers on the sphere."""

import jax
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ufm._support.pytree import entry
from ufm.losses import CrossEntropy
from ufm.model.objective import objective
from ufm.model.problem import Problem
from ufm.reproduce.checks import METRIC, VALUE, farthest, least, on_spheres
from ufm.reproduce.claim import Claim, Finding, Judgement, Paper, Row
from ufm.solvers import solve_many

_STARTS = 5
_TRAINED, _COLD, _DECAY = 0.1, 0.005, 5e-3


def softmax_codes(classes: tuple[int, ...] = (4, 6, 10)) -> Finding:
    """The largest margin min ⟨w_k − w_j, h_k⟩ by SciPy, those of runs, and a bound of all minima.

    In the plane some class has neighbours at most 4π/K apart, so that no margin exceeds
    1 − cos(2π/K), that of a regular polygon. As f ≥ (1/K) log(1 + e^{−m/τ}) for a point of margin
    m, minimisers have m ≥ −τ log(e^{Kf} − 1) for any value f attained.
    """
    rows: list[Row] = []
    for K in classes:
        name, claimed = f"K={K}", 1.0 - float(np.cos(2 * np.pi / K))
        problem, cold = on_spheres(K, 1, 2, _TRAINED), on_spheres(K, 1, 2, _COLD)
        found = solve_many(problem, jax.random.key(0), num_starts=_STARTS)
        points = [entry(found.params, i) for i in range(_STARTS)]
        tables = [np.asarray(x.W) @ np.asarray(x.H) for x in points]
        margins = [np.min((np.diag(Z) - Z)[~np.eye(K, dtype=bool)]) for Z in tables]
        f = min(float(objective(cold, x)) for x in points)
        rows += [
            Row(f"{name}: largest margin, by SciPy", _largest_margin(K), claimed, METRIC),
            Row(f"{name}: margin of {_STARTS} runs", farthest(margins, claimed), claimed, METRIC),
            Row(
                f"{name}: least margin of any minimiser at τ={_COLD:g}",
                -_COLD * float(np.log(np.expm1(K * f))),
                claimed,
                _COLD * float(np.log(2 * K)) + METRIC,
            ),
        ]
    return Finding(tuple(rows))


def _largest_margin(K: int) -> float:
    """The largest t with ⟨w_k − w_j, h_k⟩ ≥ t for angles of w and h, by SLSQP from three starts."""
    own, other = np.nonzero(~np.eye(K, dtype=bool))
    row, goal = np.arange(len(own)), -np.eye(2 * K + 1)[-1]

    def slack(x: Float[np.ndarray, " m"]) -> Float[np.ndarray, " c"]:
        w, h = x[:K], x[K:-1]
        return np.cos(w[own] - h[own]) - np.cos(w[other] - h[own]) - x[-1]

    def slope(x: Float[np.ndarray, " m"]) -> Float[np.ndarray, "c m"]:
        to_own, to_other = (np.sin(x[i] - x[K + own]) for i in (own, other))
        found = np.zeros((len(own), 2 * K + 1))
        found[row, own], found[row, other], found[:, -1] = -to_own, to_other, -1.0
        found[row, K + own] = to_own - to_other
        return found

    constraint = {"type": "ineq", "fun": slack, "jac": slope}
    best = -np.inf
    for seed in range(3):
        angles = np.random.default_rng(seed).uniform(0.0, 2 * np.pi, K)
        start = np.concatenate([angles, angles, [-1.0]])
        found = minimize(
            lambda x: -x[-1],
            start,
            jac=lambda _: goal,
            constraints=constraint,
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        best = max(best, found.x[-1] + min(0.0, slack(found.x).min()))
    return float(best)


def under_decay() -> Finding:
    """Runs with decays and a free bias against regular polygons, W = Hᵀ of square norm R.

    Polygons have f = log Σ_j e^{−R(1 − cos 2πj/K)} + λKR, with decay λ of both factors, by SciPy.
    """
    rows = []
    for K in (4, 5, 6):
        angles = 2 * np.pi * np.arange(K) / K

        def polygon(R: float, angles: np.ndarray = angles) -> float:
            loss = np.log(np.sum(np.exp(-R * (1 - np.cos(angles)))))
            return float(loss) + _DECAY * len(angles) * R

        decays = {"lam_w": _DECAY, "lam_h": _DECAY, "lam_b": 0.0}
        problem = Problem.balanced(loss=CrossEntropy(), num_classes=K, per_class=1, dim=2, **decays)
        found = solve_many(problem, jax.random.key(0), num_starts=_STARTS)
        lowest, claimed = float(np.min(np.asarray(found.value))), least(polygon, 0.1, 40.0)[1]
        rows.append(Row(f"K={K}: lowest f of {_STARTS} runs", lowest, claimed, VALUE))
    return Finding(
        tuple(rows),
        remark="at K = 6 a class without features lives on its bias, inside a pentagon",
    )


PAPER = Paper(
    key="jiang-2023",
    reference="Jiang, Zhou, Wang, Qu, Mixon, You, Zhu: Generalized Neural Collapse for a Large "
    "Number of Classes (ICML 2024)",
    arxiv="2310.05351",
    read="only the abstract was read",
    claims=(
        Claim(
            "softmax-codes",
            "With more classes than dimensions, on spheres, the smallest one-vs-rest margin is "
            "maximal.",
            "abstract, under conditions that were not read; polygons in the plane here",
            f"CE, d=2, K=4, 6 and 10, n=1, runs at τ={_TRAINED:g}",
            softmax_codes,
        ),
        Claim(
            "under-decay",
            "Softmax codes are the minimisers under weight decay and a free bias, too.",
            "not claimed: the abstract has spheres",
            f"CE, d=2, K=4, 5 and 6, n=1, λ_W=λ_H={_DECAY:g}, a free bias",
            under_decay,
            Judgement.REFUTED,
        ),
    ),
)
