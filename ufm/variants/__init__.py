"""Variants of the model, a folder each: what it changes, and nothing else."""

from ufm.variants import fixed_classifier as fixed_classifier
from ufm.variants import norms as norms
