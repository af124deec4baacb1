"""Deep linear models: more layers between classifier and features, Z = W F_1 ⋯ F_L H."""

import ufm.variants.deep.variant  # noqa: F401  # registers itself
