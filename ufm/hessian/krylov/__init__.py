"""Extremal eigenpairs and spectral densities from products alone."""
