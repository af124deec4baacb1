"""Figures and tables of `ufm solve`: convergence, collapse, angles, singular values."""
