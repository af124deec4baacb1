"""Shapes and types of arrays, checked in every call of a function whose signature has them.

The checks of plain types are left to pyright, which makes them without a call: done in every call
they took half of the time of the tests. With --full every function is checked.
"""

import functools
import inspect
from typing import Any, get_args

import jaxtyping

_jaxtyped: Any = jaxtyping.jaxtyped


def has_shapes(hint: Any) -> bool:
    """Whether an annotation holds an array's shape, or is a string, which may."""
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    inner = hint if isinstance(hint, list) else get_args(hint)
    return isinstance(hint, str) or any(has_shapes(each) for each in inner)


def _checked(subject: Any, typechecker: Any) -> Any:
    signed = subject.__init__ if inspect.isclass(subject) else subject
    hints = getattr(signed, "__annotations__", {}).values()
    return _jaxtyped(subject, typechecker=typechecker) if any(map(has_shapes, hints)) else subject


def only_where_there_are_shapes() -> None:
    """Make jaxtyping's import hook leave the other functions as they are."""
    jaxtyping.jaxtyped = lambda *, typechecker: functools.partial(_checked, typechecker=typechecker)
