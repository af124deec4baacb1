"""What an estimate of a spectrum is compared with."""

import numpy as np


def fractions(eigenvalues, x) -> np.ndarray:
    return np.mean(eigenvalues[:, None] <= np.atleast_1d(x), axis=0)


def holds(estimate, truth) -> None:
    """Every interval holds its truth, up to rounding, and its value; and says something."""
    value, lower, upper = (np.asarray(x) for x in estimate)
    tiny = 1e-8 * np.abs(truth)
    assert np.all((lower <= truth + tiny) & (truth - tiny <= upper)), (truth, lower, upper)
    assert np.all((lower <= value) & (value <= upper))
    assert np.all(np.isfinite(lower) & np.isfinite(upper))


def prescribed(kind: str, size: int, seed: int) -> np.ndarray:
    """A spectrum of a kind that quadratures find hard, ascending."""
    rng = np.random.default_rng(seed)
    if kind == "zeros beside negatives":  # 60 of 866 in (-0.1, 0), 500 zeros, outliers to 40
        rest = rng.exponential(0.3, size - 566)
        values = [-0.1 * rng.uniform(size=60), np.zeros(500), rest, [8, 10, 15, 22, 30, 40]]
    elif kind == "many scales":
        values = [rng.standard_normal(size) * 10.0 ** rng.uniform(-6, 2, size)]
    elif kind == "few values":
        values = [np.repeat(rng.standard_normal(8), -(-size // 8))[:size]]
    elif kind == "outliers":
        values = [np.zeros(size - 20), 20 * rng.standard_normal(20)]
    else:  # "decay": hundreds of eigenvalues at a weight decay, small ones of both signs
        near = 5e-4 + 1e-9 * rng.standard_normal(size // 3)
        values = [near, 1e-3 * rng.standard_normal(size - size // 3)]
    return np.sort(np.concatenate(values))
