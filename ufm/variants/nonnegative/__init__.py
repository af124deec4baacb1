"""Features H ≥ 0."""

from ufm.variants.nonnegative import variant as _variant
