"""Variants of the model, a folder each, which registers itself: what it changes, nothing else."""

import ufm.variants.contrastive
import ufm.variants.deep
import ufm.variants.fixed_classifier
import ufm.variants.nonnegative
import ufm.variants.norms  # noqa: F401
