r"""Convexity in the logits: proven, refuted with a witness, or on a region p_k ≥ p*.

For L = F(p_k) with F nonincreasing, the problem has one variable: L is convex at z iff the profile
is convex at the same p_k. For other losses the smallest eigenvalue of the Hessian is searched for
at random and two-level logits, then around the lowest. A negative eigenvalue is a witness; finding
none proves nothing.
"""

import numpy as np

from ufm.loss_check.answers import Answer, no, undecided, yes
from ufm.loss_check.function import hessians
from ufm.losses import CustomLoss, Loss, SoftmaxLoss

#: Error of eigenvalues, relative to the largest.
_ROUNDING = 1e-8
_ROUNDS, _KEPT, _AROUND = 5, 4, 6
#: Largest number of entries in the Hessians of a batch.
_MOST_NUMBERS = 2_000_000


def convex(loss: Loss, num_classes: int, seed: int) -> Answer:
    """Decide whether L(·, k) is convex."""
    shipped = not isinstance(loss, CustomLoss)
    if shipped and loss.is_convex():
        return yes("by its formula")
    region = float(loss.convex_above()) if isinstance(loss, SoftmaxLoss) else None
    least, z = least_curvature(loss, num_classes, seed, region)
    if least < 0.0:
        how = "its Hessian has a negative eigenvalue"
        if region is not None:
            how = f"convex exactly where p_k ≥ {region:.4g}, for ℓ'' ≥ 0 there; below, {how}"
        return no(how, z=z.tolist(), eigenvalue=least)
    return undecided("no negative eigenvalue of the Hessian was found, which is no proof")


def least_curvature(
    loss: Loss, num_classes: int, seed: int, region: float | None = None
) -> tuple[float, np.ndarray]:
    """The least eigenvalue of ∇²L found, 0 if it is rounding, and its z (label 0)."""
    rng = np.random.default_rng(seed + 5)
    count = int(np.clip(_MOST_NUMBERS / num_classes**2 / 4, 8, 60))
    sizes = np.geomspace(0.3, 12.0, count)[:, None]
    Z = sizes * rng.standard_normal((count, num_classes))
    margins = np.linspace(-4.0, 12.0, 33)[:, None] * np.eye(1, num_classes)
    two = np.where(np.arange(num_classes) < 2, np.linspace(-6, 6, 13)[:, None], 0.0)
    Z = np.concatenate([Z, margins, two])
    if region is not None:  # half of the odds at which convexity begins
        odds = np.log(num_classes - 1.0) + np.log(region / (2.0 - region))
        Z = np.concatenate([Z, odds * np.eye(1, num_classes)])
    best, at = 0.0, Z[0]
    for turn in range(_ROUNDS):
        least, known = _lowest(loss, Z)
        order = np.argsort(least)
        if least[order[0]] < best and least[order[0]] < -known[order[0]]:
            best, at = float(least[order[0]]), Z[order[0]]
        centres = Z[order[:_KEPT]]
        noise = rng.standard_normal((_KEPT, _AROUND, num_classes)) * 0.5**turn
        Z = (centres[:, None] + noise).reshape(-1, num_classes)
        if best < 0.0 and turn >= 1:
            break
    return best, at


def _lowest(loss: Loss, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least eigenvalues, and their rounding errors."""
    found = hessians(loss, Z)
    usable = np.all(np.isfinite(found), axis=(1, 2))
    found = np.where(usable[:, None, None], found, 0.0)
    eigenvalues = np.linalg.eigvalsh(0.5 * (found + np.swapaxes(found, 1, 2)))
    known = _ROUNDING * np.max(np.abs(eigenvalues), axis=1) + 1e-12
    return eigenvalues[:, 0], known
