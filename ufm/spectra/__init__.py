"""Spectra of the Hessian at the minimum, at the origin, at any point, and along a run."""
