"""Variants of the model, a folder each, which registers itself: what it changes, nothing else."""

from ufm.variants import contrastive as contrastive
from ufm.variants import deep as deep
from ufm.variants import fixed_classifier as fixed_classifier
from ufm.variants import nonnegative as nonnegative
from ufm.variants import norms as norms
