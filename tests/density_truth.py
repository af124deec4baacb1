"""What an estimate of a spectrum is compared with."""

import numpy as np


def fractions(eigenvalues, x) -> np.ndarray:
    return np.mean(eigenvalues[:, None] <= np.atleast_1d(x), axis=0)


def within(estimate, truth, errors) -> None:
    """Every value is within so many standard errors of the truth, and has an error bar."""
    assert np.all(np.asarray(estimate.standard_error) > 0)
    assert np.all(np.abs(estimate.value - truth) <= errors * np.asarray(estimate.standard_error))
