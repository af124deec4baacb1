"""Figures and tables of critical points and the flow between them."""
