r"""Norms, angles and rank of vectors such as class means: numbers beside NC1–NC4.

For vectors u_1, …, u_K as rows, with i < j over all pairs:

    spread of norms       std ‖u_k‖ / mean ‖u_k‖, 0 if all are equally long
    cosines               ⟨u_i, u_j⟩ / (‖u_i‖‖u_j‖), −1/(K−1) for a simplex ETF
    hyperspherical energy mean of −log ‖û_i − û_j‖, û = u/‖u‖: least if the directions are uniform
    effective rank        exp(−Σ_j p_j log p_j), p_j = σ_j/Σσ, of a matrix with singular values σ

(Papyan, Han & Donoho, 2020, for norms and cosines; Liu et al., 2023, for the energy; Roy &
Vetterli, 2007, for the rank.) Everything is computed by NumPy, and NaN where undefined.

    >>> frame = np.eye(4) - 0.25
    >>> norm_spread(frame).round(6).item(), pairs(cosines(frame)).round(6)
    (0.0, array([-0.333333, -0.333333, -0.333333, -0.333333, -0.333333, -0.333333]))
    >>> round(effective_rank(frame @ frame.T), 6)
    3.0
"""

import numpy as np
from jaxtyping import Float


def pairs(grid: Float[np.ndarray, "K K"]) -> Float[np.ndarray, " pairs"]:
    """The entries above the diagonal."""
    return grid[~np.tri(len(grid), dtype=bool)]


def norm_spread(rows: Float[np.ndarray, "K d"]) -> np.float64:
    """Standard deviation of the norms of the rows over their mean."""
    norms = np.linalg.norm(rows, axis=1)
    return np.std(norms) / np.mean(norms)


def cosines(rows: Float[np.ndarray, "K d"]) -> Float[np.ndarray, "K K"]:
    """Cosines of the angles between the rows."""
    directions = rows / np.linalg.norm(rows, axis=1)[:, None]
    return directions @ directions.T


def energies(cosine: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """−log of the distance between two unit vectors, from the cosine of their angle."""
    return -0.5 * np.log(np.maximum(2.0 - 2.0 * cosine, 0.0))


def normalised_variances(
    rows: Float[np.ndarray, "K d"], variances: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " pairs"]:
    """(v_i + v_j) / (2‖u_i − u_j‖²) of each pair: CDNV (Galanti, György & Hutter, 2022)."""
    gram = rows @ rows.T
    squares = np.diag(gram)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * gram, 0.0)
    return pairs(variances[:, None] + variances[None, :]) / (2.0 * pairs(distances))


def effective_rank(covariance: Float[np.ndarray, "d d"]) -> float:
    """Effective rank of the features with this covariance, whose eigenvalues are their σ²."""
    if not np.all(np.isfinite(covariance)):
        return float("nan")
    values = np.linalg.eigvalsh(covariance)
    # Eigenvalues within rounding of 0 would count with their square roots.
    kept = values[values > values[-1] * len(values) * np.finfo(float).eps]
    if not len(kept):
        return float("nan")
    share = np.sqrt(kept) / np.sum(np.sqrt(kept))
    return float(np.exp(-np.sum(share * np.log(share))))
