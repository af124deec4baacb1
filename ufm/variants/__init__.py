"""Variants of the model, a folder each: what it changes, and nothing else."""

import ufm.variants.deep  # noqa: F401  # registers itself
