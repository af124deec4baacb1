"""JSON as the standard has it: no NaN, no infinity."""

import json
import math
from typing import Any


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: null instead."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def dumps(value: Any) -> str:
    """Strict JSON, with null for what has no number."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
