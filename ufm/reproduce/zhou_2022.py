"""Zhou et al. (2022): the losses CE, LS, FL and MSE, and where the focal loss is an exception."""

from collections.abc import Callable

import numpy as np
from scipy.stats import ttest_1samp

from ufm.certificates.certificate import Verdict, certify
from ufm.collapse.origin import origin
from ufm.counterexamples.phases import focal_phases
from ufm.landscape import CriticalPoint
from ufm.losses import MSE, CrossEntropy, Focal, LabelSmoothing, Loss
from ufm.minimum.global_minimum import global_minimum
from ufm.model.objective import objective
from ufm.model.problem import Problem
from ufm.reproduce.checks import (
    METRIC,
    SEARCHED,
    USUAL,
    VALUE,
    benign,
    certified,
    collapsed,
    cosine_row,
    ends,
    least,
    searched,
    usual,
    value_row,
)
from ufm.reproduce.claim import Claim, Finding, Judgement, Paper, Row
from ufm.variants.contrastive.problem import ContrastiveProblem

_K, _N, _DECAY, _LAM_B = 10, 100, 5e-4, 0.01


def _ce(s: float, classes: int = _K) -> float:
    return float(np.logaddexp(0.0, np.log(classes - 1.0) - s))


def _ls(s: float, alpha: float = 0.1) -> float:
    return _ce(s) + alpha * (_K - 1) / _K * s


def _fl(s: float, gamma: float = 3.0, classes: int = _K) -> float:
    value = _ce(s, classes)
    return float(-np.expm1(-value)) ** gamma * value


def _mse(s: float) -> float:
    return 0.5 * (1.0 - s) ** 2 * (_K - 1) / _K + _LAM_B / (2 * _K * (1.0 + _LAM_B))


#: Each loss, and its value at a sample whose label leads all others by the margin s.
_LOSSES: tuple[tuple[Loss, Callable[[float], float]], ...] = (
    (CrossEntropy(), _ce),
    (LabelSmoothing(0.1), _ls),
    (Focal(3.0), _fl),
    (MSE(), _mse),
)


def global_minimisers() -> Finding:
    """Runs of each loss against the minimum of φ(s) + (K−1)μ√n s, found by SciPy."""
    c = (_K - 1) * _DECAY * _N**0.5
    rows: list[Row] = []
    for loss, profile in _LOSSES:
        found, proven = certified(usual(loss))
        value = value_row(f"{loss.label()}: f", found, _least(profile, c, 0.0, 50.0)[1])
        rows += [proven, value, collapsed(found)]
    return Finding(tuple(rows))


def _least(
    profile: Callable[[float], float], c: float, low: float, high: float
) -> tuple[float, float]:
    """The margin in [low, high] of the least φ(s) + cs, and that value."""
    grid = np.linspace(low, high, 2001)
    start = int(np.argmin([profile(s) + c * s for s in grid]))
    ends = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
    return least(lambda s: profile(s) + c * s, *ends)


def label_smoothing_landscape() -> Finding:
    """A census at K = 4."""
    return Finding(benign([x.verdict for x in searched(LabelSmoothing(0.1)).points]))


def focal_landscape() -> Finding:
    """A census at K = 4, of the points at which the loss is convex at every sample."""
    loss = Focal(3.0)
    least = float(loss.convex_above())
    points = searched(loss).points
    near = [point for point in points if _label_probability(point) >= least]
    beyond = Row("critical points found outside the region", len(points) - len(near))
    return Finding((*benign([x.verdict for x in near]), beyond))


def _label_probability(point: CriticalPoint) -> float:
    """The least probability of a label at a point of class means or of samples."""
    W, H, b = (np.asarray(x) for x in (point.params.W, point.params.H, point.params.b))
    logits = W @ H + b[:, None]
    labels = np.arange(H.shape[1]) // (H.shape[1] // len(W))
    own = logits[labels, np.arange(H.shape[1])]
    return float(np.exp(own - np.logaddexp.reduce(logits, axis=0)).min())


def focal_everywhere() -> Finding:
    """The origin at K = 100: a local minimum by the signs of its Hessian, above the simplex ETF."""
    problem = Problem.balanced(
        loss=Focal(3.0),
        num_classes=100,
        per_class=1,
        dim=99,
        lam_w=0.0114,
        lam_h=0.0114,
        lam_b=None,
    )
    at_origin, minimum = certify(problem, origin(problem)), global_minimum(problem)
    excess = float(at_origin.value) - minimum.value
    is_minimum = at_origin.verdict is Verdict.LOCAL_MINIMUM and excess > 0
    return Finding(
        (
            Row("local minima found above f*", float(is_minimum), 0),
            Row("f at the origin", float(at_origin.value)),
            Row(
                "‖G‖₂/μ at the origin, which descends where it is above 1",
                float(at_origin.dual_norm) / 0.0114,
            ),
            Row(
                "f* at the simplex ETF",
                float(objective(problem, minimum.params(None))),
                _least(lambda s: _fl(s, 3.0, 100), 99 * 0.0114, 0.5, 20.0)[1],
                VALUE,
            ),
        ),
        undecided="" if minimum.is_exact else minimum.reason,
        remark="the origin, of which the paper's local statement says nothing: there p_k = 1/100, "
        f"and FL(3) is convex only where p_k ≥ {float(Focal(3.0).convex_above()):.4f}",
    )


def focal_uniqueness() -> Finding:
    """The decay at which φ(s) + cs has two minimisers, 0 and s > 0, for the least K with one."""
    rows: list[Row] = []
    for gamma, classes in ((1.0, 24), (2.0, 18), (3.0, 18)):
        for K in (classes - 1, classes):
            phases = focal_phases(gamma, K)
            c = (K - 1) * float(phases.tie)
            margin, value = _least(lambda s, K=K, g=gamma: _fl(s, g, K), c, 0.01, 2.0)
            ties = bool(phases.jumps) and abs(value - _fl(0.0, gamma, K)) <= 1e-12
            name = f"γ={gamma:g}, K={K}"
            rows.append(Row(f"{name}: global minimisers at the threshold", 1 + ties, 1))
            if ties:
                rows.append(Row(f"{name}: margin of the second, beside 0", margin))
    return Finding(
        tuple(rows),
        remark="at this single decay the origin has the same value as the simplex ETF; the value "
        "of collapse is the minimum at every decay all the same",
    )


def supervised_contrastive() -> Finding:
    """Certified runs of SupCon and of CE: do the directions of their class means agree?

    CE features have a size, set by the decays, and a free mean, so that directions are compared.
    """
    classes, n = 10, 10
    contrastive, first = certified(ContrastiveProblem((n,) * classes, 16, 0.5))
    cross_entropy, second = certified(usual(CrossEntropy(), per_class=n))
    rows, angle = [first, second], -1 / (classes - 1)
    for name, found in (("SupCon", contrastive), ("CE", cross_entropy)):
        means = [np.asarray(end.H).T.reshape(classes, n, 16).mean(axis=1) for end in ends(found)]
        means = [each - each.mean(axis=0) for each in means]
        largest = float(np.max(np.asarray(found.metrics.nc1)))
        rows.append(Row(f"{name}: largest NC1", largest, 0.0, METRIC))
        rows.append(cosine_row(f"{name}: cosine between classes", means, angle))
    return Finding(tuple(rows))


#: Test accuracies, %, of five seeds in the committed results sweeps/networks-collapse.json.
WIDE = {
    "CE": (85.11, 85.31, 85.23, 84.89, 84.95),
    "LS": (85.36, 85.15, 84.93, 84.91, 85.06),
    "FL": (84.65, 84.94, 84.89, 85.18, 85.11),
    "MSE": (85.2, 84.68, 85.29, 84.96, 85.14),
}
#: Those of the smallest networks, trained for the shortest time, in sweeps/networks-grid.json.
NARROW = {
    "CE": (83.13, 83.38, 83.0, 83.24, 82.92),
    "LS": (82.96, 83.05, 82.99, 83.01, 82.76),
    "FL": (81.89, 81.82, 81.56, 82.07, 81.54),
    "MSE": (81.54, 82.8, 82.78, 82.85, 83.1),
}


def equal_accuracy() -> Finding:
    """Is the 90 % interval of the mean difference to CE, seed by seed, within one point of 0?

    That is the equivalence test of two one-sided t tests at level 5 %; t by SciPy.
    """
    rows: list[Row] = []
    for name, accuracies, margin in (
        ("width 128, 2,000 epochs", WIDE, 1.0),
        ("width 16, 10 epochs", NARROW, None),
    ):
        for loss in ("LS", "FL", "MSE"):
            differences = np.subtract(accuracies[loss], accuracies["CE"])
            interval = ttest_1samp(differences, 0.0).confidence_interval(0.9)
            end = max((float(interval.low), float(interval.high)), key=abs)
            quantity = f"{name}: {loss} minus CE, far end of the 90 % interval, points"
            rows.append(Row(quantity, end, None if margin is None else 0.0, margin or 0.0))
    return Finding(tuple(rows), remark="the second setting is neither large nor trained for long")


PAPER = Paper(
    key="zhou-2022",
    reference="Zhou, You, Li, Liu, Liu, Qu, Zhu: Are All Losses Created Equal: A Neural Collapse "
    "Perspective (NeurIPS 2022)",
    arxiv="2210.02192",
    read="the abstract was read, and the beginning of the first version",
    claims=(
        Claim(
            "global-minimisers",
            "The only global minimisers under CE, LS, FL and MSE are neural collapse.",
            "abstract",
            f"{USUAL}, λ_b=0.01, LS α=0.1, FL γ=3",
            global_minimisers,
        ),
        Claim(
            "label-smoothing-landscape",
            "Under LS all other critical points are strict saddles.",
            "abstract",
            f"α=0.1, {SEARCHED}",
            label_smoothing_landscape,
        ),
        Claim(
            "focal-landscape",
            "Under FL all other critical points near the optimal solution are strict saddles.",
            "abstract",
            f"γ=3, {SEARCHED}; near is where FL is convex",
            focal_landscape,
        ),
        Claim(
            "focal-everywhere",
            "Under FL all other critical points are strict saddles everywhere, not only near the "
            "optimal solution.",
            "not claimed: the abstract restricts it",
            "γ=3, K=100, d=99, n=1, λ_W=λ_H=0.0114, no bias",
            focal_everywhere,
            Judgement.REFUTED,
        ),
        Claim(
            "focal-uniqueness",
            "Neural collapse is the only global minimiser under FL for every K, γ and decay.",
            "abstract, which states no conditions; the theorem was not read",
            "n=1, no bias, at the decay where collapse ends",
            focal_uniqueness,
            Judgement.REFUTED,
        ),
        Claim(
            "supervised-contrastive",
            "The supervised contrastive loss, too, leads to the features of CE.",
            "introduction of the first version; the published abstract names CE, LS, FL and MSE",
            "K=10, d=16, n=10; SupCon on the unit sphere, τ=0.5; CE λ_W=λ_H=5e-4, λ_b=0.01",
            supervised_contrastive,
        ),
        Claim(
            "equal-accuracy",
            "Under CE, LS, FL and MSE large networks, trained for long, have largely identical "
            "test accuracies.",
            "abstract; its networks are larger, and its data another set",
            "MLPs on 5,000 images of Fashion-MNIST, five seeds, margin 1 point; trained before",
            equal_accuracy,
        ),
    ),
)
