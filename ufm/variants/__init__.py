"""Variants of the model, a folder each: what it changes, and nothing else."""

from ufm.variants import deep as deep
