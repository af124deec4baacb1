"""JSON as the standard has it: no NaN, no infinity."""

import json
import math
import re
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


#: In JSON only strings hold such characters.
_BEYOND_ASCII = re.compile("[\x7f-\U0010ffff]")


def _safe(match: re.Match[str]) -> str:
    """Keep printable characters; escape control characters and what UTF-8 cannot encode."""
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


def dumps(value: Any) -> str:
    """Write strict JSON, safe to print, with null for NaN and infinities."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    return _BEYOND_ASCII.sub(_safe, text)
