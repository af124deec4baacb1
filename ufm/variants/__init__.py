"""Variants of the model, a folder each: what it changes, and nothing else."""

import ufm.variants.contrastive.variant  # noqa: F401  # it registers itself
