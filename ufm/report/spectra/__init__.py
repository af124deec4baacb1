"""Figures of Hessian spectra."""
