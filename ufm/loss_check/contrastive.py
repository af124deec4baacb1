r"""The contrastive property: L(z, k) ≥ φ(mean margin), for all z.

Three proofs are tried in order: (i) L is symmetric and quasi-convex in the rivals, by averaging
over their permutations; (ii) L = F(p_k) with F nonincreasing, since p_k is largest at equal rivals;
(iii) L = Ψ(p) with Ψ symmetric and convex in the rivals' probabilities at fixed p_k, and
Ψ(p, (1−p)/(K−1), …) nonincreasing in p. If none applies, the worst violation is searched for: with
rivals −s + u, Σu = 0, L(z) − φ(s) is minimised over (s, u).
"""

import numpy as np

from ufm.loss_check.answers import Answer, no, undecided, yes
from ufm.loss_check.function import sampled
from ufm.losses import LabelSmoothing, Loss, SoftmaxLoss

#: Number of starts of L-BFGS.
_FOLLOWED = 6
#: Largest margins and differences of rivals in the search.
_FAR = 30.0
#: Violations below this, relative to the loss, are rounding.
_ROUNDING = 1e-9


def contrastive(
    loss: Loss, num_classes: int, seed: int, *, equivariant: Answer, shift_invariant: Answer
) -> Answer:
    """Return a proof, a witness, or the least L − φ found."""
    if loss.contrastive:
        if loss.is_convex() or isinstance(loss, LabelSmoothing):
            return yes("proof (i): symmetric and convex in the rivals' logits")
        if isinstance(loss, SoftmaxLoss):
            return yes("proof (ii): a decreasing function of p_k")
        return yes("proof (iii): convex in the rivals' probabilities at fixed p_k")
    if equivariant.holds is False or num_classes < 3:
        return undecided("asked of equivariant losses with K ≥ 3 only")
    if shift_invariant.holds is False and loss.is_convex():
        return undecided(
            "asked of shift-invariant losses only; a convex one needs no such argument"
        )
    excess, z = worst_violation(loss, num_classes, seed)
    scale = 1.0 + abs(float(sampled(loss, np.zeros((1, num_classes)), 0)[0][0]))
    if excess < -_ROUNDING * scale:
        return no("L is below its value at equal rivals", z=z.tolist(), excess=excess)
    return undecided("the search for a violation found none, which is no proof", least=excess)


def worst_violation(loss: Loss, num_classes: int, seed: int) -> tuple[float, np.ndarray]:
    """The least L(z) − φ(s) found, and its z, with z_k = 0 and label 0."""
    from scipy.optimize import minimize  # half a second, which most losses need not wait for

    starts = _starts(num_classes, seed)
    rivals = num_classes - 1

    def logits(x: np.ndarray) -> np.ndarray:
        u = x[:, 1:] - x[:, 1:].mean(axis=1, keepdims=True)
        return np.concatenate([np.zeros((len(x), 1)), u - x[:, :1]], axis=1)

    def excesses(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        Z = logits(x)
        equal = np.concatenate([np.zeros((len(x), 1)), np.repeat(-x[:, :1], rivals, axis=1)], 1)
        values, gradients = sampled(loss, np.concatenate([Z, equal]), 0)
        half = len(x)
        away = gradients[:half, 1:] - gradients[:half, 1:].mean(axis=1, keepdims=True)
        slope = gradients[half:, 1:].sum(axis=1) - gradients[:half, 1:].sum(axis=1)
        return values[:half] - values[half:], np.concatenate([slope[:, None], away], axis=1)

    first, _ = excesses(starts)
    first = np.where(np.isfinite(first), first, np.inf)
    order = np.argsort(first)[:_FOLLOWED]
    best, at = float(first[order[0]]), starts[order[0]]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = excesses(x[None])
        usable = np.isfinite(value[0]) and np.all(np.isfinite(gradient))
        return (float(value[0]), gradient[0]) if usable else (1e10, np.zeros_like(x))

    for i in order:
        box = [(-_FAR, _FAR)] * num_classes
        found = minimize(
            objective, starts[i], jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": 60}
        )
        if found.fun < best:
            best, at = float(found.fun), found.x
    return best, logits(at[None])[0]


def _starts(num_classes: int, seed: int) -> np.ndarray:
    """Starts (s, u): two-level rivals, m of them at the upper level, and Gaussian rivals."""
    rivals = num_classes - 1
    counts = np.unique(np.linspace(1, max(rivals - 1, 1), min(rivals, 12)).astype(int))
    margins = (-6.0, -3.0, 0.0, 2.0, 4.0, 8.0)
    rows = []
    for m in counts:
        for height in (0.3, 2.0, 8.0):
            u = np.where(np.arange(rivals) < m, height, 0.0)
            rows += [
                np.concatenate([[s], sign * (u - u.mean())]) for s in margins for sign in (1, -1)
            ]
    rng = np.random.default_rng(seed + 4)
    for size in (0.5, 2.0, 6.0):
        u = size * rng.standard_normal((10, rivals))
        s = rng.uniform(-6, 8, (10, 1))
        rows += list(np.concatenate([s, u - u.mean(axis=1, keepdims=True)], axis=1))
    return np.array(rows)
