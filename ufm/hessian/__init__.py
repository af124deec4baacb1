"""The Hessian: products, exact counts and spectra, extremal eigenpairs, spectral density."""

from ufm._support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
