"""Figures and the page of a sweep over networks."""
