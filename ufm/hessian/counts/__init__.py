"""Exact counts of eigenvalues by factorisation, linear in the number of samples."""
