"""Extremal eigenpairs and spectral densities from Hessian products alone."""
