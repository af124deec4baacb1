"""Deep linear models: more layers between classifier and features, Z = W F_1 ⋯ F_L H."""

from ufm.variants.deep import variant as variant
