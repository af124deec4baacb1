"""Factors of confined norm: spheres, balls and budgets, with one factor decayed or none."""

from ufm.model.variant import register
from ufm.variants.norms.variant import Norms

register(Norms())
