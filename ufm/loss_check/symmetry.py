r"""Equivariance, shift invariance, dependence on p_k alone, bounds, and behaviour at large logits.

For the losses of the library these follow from their formulas. A function is tested at random
logits of many scales, at ties and at saturation. A violation is a witness. Finding none proves
nothing, since a function can differ in a branch that no sample reaches.

For equivariance 2K − 3 identities suffice: L(z, k) = L(z with entries 1 and k swapped, 1), and
L(·, 1) unchanged by swapping neighbours among the others.
"""

import numpy as np

from ufm.loss_check.answers import Answer, no, undecided, yes
from ufm.loss_check.function import sampled
from ufm.losses import CustomLoss, Loss, SoftmaxLoss

#: Largest number of labels and swaps to test.
_MOST_LABELS = 64
#: Relative differences above this are more than rounding.
_TOLERANCE = 1e-7
_SIZES = (0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 50.0)


def points(num_classes: int, seed: int) -> np.ndarray:
    """Make test logits: Gaussian at many scales, with ties, at two levels, and near saturation."""
    rng = np.random.default_rng(seed)
    rows = [size * rng.standard_normal((6, num_classes)) for size in _SIZES]
    tied = np.round(2.0 * rng.standard_normal((6, num_classes)))
    levels = np.where(rng.random((6, num_classes)) < 0.5, 3.0, -1.0)
    units = np.eye(1, num_classes)
    return np.concatenate([*rows, tied, levels, 4.0 * units, -4.0 * units, 40.0 * units])


def equivariant(loss: Loss, num_classes: int, seed: int) -> Answer:
    """Test whether L is equivariant under permutations of the classes."""
    if loss.equivariant:
        return yes("by its formula")
    rng = np.random.default_rng(seed + 1)
    Z = points(num_classes, seed)
    at_first = sampled(loss, Z, 0)[0]
    others = np.arange(1, num_classes)
    if len(others) > _MOST_LABELS:
        others = rng.choice(others, _MOST_LABELS, replace=False)
    for k in others:
        swapped = Z.copy()
        swapped[:, [0, k]] = Z[:, [k, 0]]
        j = 1 + int(k) % max(num_classes - 2, 1)
        neighbours = Z.copy()
        if num_classes > 2:
            neighbours[:, [j, j + 1]] = Z[:, [j + 1, j]]
        pairs = {
            int(k): sampled(loss, swapped, int(k))[0],
            0: sampled(loss, neighbours, 0)[0],
        }
        for label, values in pairs.items():
            i = _first_difference(at_first, values)
            if i is not None:
                moved = swapped if label else neighbours
                return no(
                    "the classes renamed, its value is another",
                    z=Z[i].tolist(),
                    value=float(at_first[i]),
                    renamed=moved[i].tolist(),
                    label=label,
                    value_renamed=float(values[i]),
                )
    return undecided(f"held at {len(Z)} points and {len(others)} labels, a test and no proof")


def _first_difference(a: np.ndarray, b: np.ndarray) -> int | None:
    both = np.isfinite(a) & np.isfinite(b)
    size = np.where(both, np.abs(a) + np.abs(b), 0.0)
    allowed = _TOLERANCE * size + 1e-13 * float(np.max(size[both], initial=0.0))
    apart = np.abs(np.where(both, a, 0.0) - np.where(both, b, 0.0)) > allowed
    differs = (both & apart) | (np.isfinite(a) != np.isfinite(b))
    return int(np.argmax(differs)) if np.any(differs) else None


def shift_invariant(loss: Loss, num_classes: int, seed: int) -> Answer:
    """Test whether 1ᵀ∇L = 0, relative to ‖∇L‖₁ + eps |L|."""
    if not isinstance(loss, CustomLoss):
        if loss.shift_invariant:
            return yes("by its formula")
        Z = points(num_classes, seed)[:1]
        moved = sampled(loss, Z + 1.0, 0)[0]
        value = sampled(loss, Z, 0)[0]
        if _first_difference(value, moved) is not None:
            return no(
                "one number added to all logits changes it",
                z=Z[0].tolist(),
                value=float(value[0]),
                value_of_z_plus_1=float(moved[0]),
            )
    Z = points(num_classes, seed)
    values, gradients = sampled(loss, Z, 0)
    eps = float(np.finfo(float).eps)
    total = np.abs(gradients.sum(axis=1))
    size = np.abs(gradients).sum(axis=1)
    # At saturation, the rounding of a bounded loss is relative to its value and its derivatives.
    allowed = _TOLERANCE * size + 1e3 * eps * (np.abs(values) + float(np.max(size)))
    broken = total > allowed
    if np.any(broken):
        i = int(np.argmax(np.where(broken, total / (size + eps), 0.0)))
        return no(
            "its gradient does not sum to 0",
            z=Z[i].tolist(),
            sum=float(gradients[i].sum()),
            size=float(size[i]),
        )
    return undecided(f"1ᵀ∇L = 0 to rounding at {len(Z)} points, a test and no proof")


def of_label_probability(loss: Loss, num_classes: int, seed: int) -> Answer:
    """Test whether L = F(p_k), that is, whether ∇L is parallel to p − e_k."""
    if isinstance(loss, SoftmaxLoss) and loss.tilt(num_classes) is None:
        return yes("by its formula")
    Z = points(num_classes, seed)
    _, gradients = sampled(loss, Z, 0)
    p = np.exp(Z - Z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    away = p - np.eye(1, num_classes)
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-300
    size = np.linalg.norm(gradients, axis=1)
    rest = np.linalg.norm(gradients - (gradients * away).sum(axis=1)[:, None] * away, axis=1)
    broken = (rest > 1e-6 * size + 1e-12 * np.max(size)) & (size > 1e-8 * np.max(size))
    # If p_k is 1 to rounding, the direction p − e_k is unknown.
    broken &= p[:, 0] < 1.0 - 1e-8
    if np.any(broken):
        i = int(np.argmax(np.where(broken, rest / (size + 1e-300), 0.0)))
        return no(
            "its gradient is not parallel to p − e_k",
            z=Z[i].tolist(),
            angle=float(np.arcsin(min(1.0, rest[i] / size[i]))),
        )
    return undecided(f"∇L is parallel to p − e_k at {len(Z)} points, a test and no proof")


def bounded_below(loss: Loss, num_classes: int, seed: int) -> Answer:
    """Test whether L is bounded below, far out along two-level and random directions."""
    if loss.infimum() is not None and not isinstance(loss, CustomLoss):
        return yes(f"by its formula: L ≥ {loss.infimum():.6g}")
    rng = np.random.default_rng(seed + 2)
    two_levels = np.stack(
        [np.arange(num_classes) < m for m in range(1, min(num_classes, 12))]
    ).astype(float)
    random = rng.standard_normal((40, num_classes))
    directions = np.concatenate([two_levels, -two_levels, np.roll(two_levels, 1, axis=1), random])
    far = np.array([1e2, 1e3, 1e4])
    rays = (far[:, None, None] * directions).reshape(-1, num_classes)
    values = sampled(loss, rays, 0)[0].reshape(len(far), -1)
    # The fall grows about in proportion to the distance, or faster.
    near, middle, last = np.where(np.isfinite(values), values, np.inf)
    with np.errstate(invalid="ignore"):
        falls = (middle - near < -1e-6 * 900) & (last - middle < 5.0 * (middle - near))
    if np.any(falls):
        i = int(np.argmin(np.where(falls, last, np.inf)))
        return no(
            "it falls in proportion to the distance along a direction, as far as it was followed",
            direction=directions[i].tolist(),
            values=[float(x[i]) for x in values],
            at=far.tolist(),
        )
    return undecided(f"no fall along {len(directions)} directions out to 1e4, a test and no proof")


def finite(loss: Loss, num_classes: int, seed: int) -> Answer:
    """Test whether value and gradient are finite up to logits of ±1e4."""
    rng = np.random.default_rng(seed + 3)
    units = np.eye(2, num_classes)
    directions = np.concatenate([units, -units, rng.uniform(-1, 1, (6, num_classes))])
    for size in (50.0, 100.0, 750.0, 1e4):
        Z = size * directions
        values, gradients = sampled(loss, Z, 0)
        wrong = ~(np.isfinite(values) & np.all(np.isfinite(gradients), axis=1))
        if np.any(wrong):
            i = int(np.argmax(wrong))
            return no(
                f"not finite at logits of size {size:g}: use log_softmax, logsumexp or log1p there",
                z=Z[i].tolist(),
                value=float(values[i]),
            )
    how = f"value and gradient at {len(directions)} points for each of ±50, 100, 750 and 1e4"
    shipped = not isinstance(loss, CustomLoss)
    return yes("tested against 50 digits out to ±1e4") if shipped else undecided(f"finite: {how}")
