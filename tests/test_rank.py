"""The numerical rank: of matrices with given spectra, and where a theorem says that it falls."""

import numpy as np
import pytest

from ufm import CrossEntropy, Problem, global_minimum
from ufm._support.rank import matrix_rank, numerical_rank


@pytest.mark.parametrize(
    ("sizes", "rank"),
    [
        ([3.0, 1e-3, 4e-6, 2e-6], 3),
        ([3e4, 1.0, 1e-2], 2),
        ([3e-4, 2e-7, 5e-8], 2),
        ([9e-8, 8e-8, 7e-8], 0),
        ([0.0, 0.0, 0.0], 0),
    ],
)
def test_the_rank_is_that_of_the_spectrum(sizes, rank):
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, len(sizes))))[0] for n in (7, 5))
    assert matrix_rank(left * sizes @ right.T) == rank
    assert numerical_rank(np.array(sizes)) == rank


def test_a_matrix_without_entries_has_rank_0():
    assert numerical_rank(np.zeros(0)) == 0


@pytest.mark.parametrize(("distance", "rank"), [(-1e-5, 2), (1e-5, 3)])
def test_two_classes_of_n_samples_merge_at_the_decay_of_the_theorem(distance, rank):
    """Cross-entropy: they share all iff μ ≥ √n/N; below, their difference is one more direction."""
    counts = (1000, 1000, 100, 100)
    mu = 100**0.5 / sum(counts) * (1 - distance)
    problem = Problem(
        loss=CrossEntropy(), class_counts=counts, dim=6, lam_w=mu, lam_h=mu, lam_b=None
    )
    found = global_minimum(problem)
    assert found.is_exact
    assert found.rank == rank
