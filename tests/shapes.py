"""Shapes and types of arrays, checked in calls of the functions whose signatures have them.

The first thirty calls of each, then one in thirty; the checks of plain types are
left to pyright, which makes them without a call: done in every call they took half of the time of
the tests. With --full every call of every function is checked.
"""

import collections
import functools
import inspect
import itertools
from typing import Any, get_args

import jaxtyping

_jaxtyped: Any = jaxtyping.jaxtyped


def has_shapes(hint: Any) -> bool:
    """Whether an annotation holds an array's shape, or is a string, which may."""
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    inner = hint if isinstance(hint, list) else get_args(hint)
    return isinstance(hint, str) or any(has_shapes(each) for each in inner)


def checked(subject: Any, typechecker: Any) -> Any:
    """Check a function's calls, or a class's, if its signature has shapes."""
    signed = subject.__init__ if inspect.isclass(subject) else subject
    hints = getattr(signed, "__annotations__", {}).values()
    if not any(map(has_shapes, hints)):
        return subject
    always = functools.partial(_jaxtyped, subject, typechecker=typechecker)
    return _now_and_then(subject, always) if inspect.isfunction(subject) else always()


#: Calls so far of each function, also of one that is defined anew in every call of another.
_calls: dict[Any, Any] = collections.defaultdict(itertools.count)


def _now_and_then(function: Any, always: Any) -> Any:
    calls = _calls[function.__code__]
    # The check is written when it is first needed: most functions a process never calls.
    always = functools.cache(always)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        return (always() if number < 30 or number % 30 == 0 else function)(*args, **kwargs)

    return called


def only_where_there_are_shapes() -> None:
    """Make jaxtyping's import hook leave the other functions as they are."""
    jaxtyping.jaxtyped = lambda *, typechecker: functools.partial(checked, typechecker=typechecker)
