"""Whole spectra at points with structure: collapsed, symmetric, or zero in some dimensions."""
