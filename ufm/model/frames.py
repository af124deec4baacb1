"""The centring matrix, and a basis of its range."""

import numpy as np
from jaxtyping import Float


def centering(num_classes: int) -> Float[np.ndarray, "K K"]:
    """P = I − 11ᵀ/K."""
    return np.eye(num_classes) - 1.0 / num_classes


def simplex_basis(num_classes: int) -> Float[np.ndarray, "K K-1"]:
    """Orthonormal columns spanning 1^⊥ (Helmert's): M with M Mᵀ = P, MᵀM = I."""
    columns = np.zeros((num_classes, num_classes - 1))
    for j in range(1, num_classes):
        columns[:j, j - 1] = 1.0
        columns[j, j - 1] = -j
    return columns / np.linalg.norm(columns, axis=0)
