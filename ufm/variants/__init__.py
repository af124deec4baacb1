"""Variants of the model, a folder each: what it changes, and nothing else."""

from ufm.variants.nonnegative import NonNegativeFeatures as NonNegativeFeatures
