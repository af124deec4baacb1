"""Frozen dataclasses that JAX can flatten, without running the constructor again.

JAX rebuilds containers with arbitrary objects in their fields: tracers, `None`, `object()`
sentinels, batched arrays. A constructor that validates or converts would raise, so unflattening
bypasses `__init__` and sets the fields unchanged.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np
from jax.core import Tracer

from ufm._support.shown import Shown

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A field that is part of the type: hashed and compared, never traced."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree(*, eq: bool = False) -> Callable[[type[T]], type[T]]:
    """Class decorator: a frozen dataclass registered as a pytree.

    Fields made with `static()` go into the tree's structure; all others are children.
    `eq` asks for field-by-field equality, which only makes sense without array fields.
    """

    def wrap(cls: type[T]) -> type[T]:
        cls = dataclasses.dataclass(frozen=True, eq=eq, repr=not issubclass(cls, Shown))(cls)
        # `cls` is a dataclass by now, which its static type does not say.
        fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        leaves = tuple(f.name for f in fields if not f.metadata.get("static", False))
        meta = tuple(f.name for f in fields if f.metadata.get("static", False))

        def flatten_with_keys(obj: T):
            children = tuple((jax.tree_util.GetAttrKey(n), getattr(obj, n)) for n in leaves)
            return children, tuple(getattr(obj, n) for n in meta)

        def flatten(obj: T):
            return tuple(getattr(obj, n) for n in leaves), tuple(getattr(obj, n) for n in meta)

        def unflatten(aux: tuple[Any, ...], children: Iterable[Any]) -> T:
            obj = object.__new__(cls)
            for name, value in zip(leaves, children, strict=True):
                object.__setattr__(obj, name, value)
            for name, value in zip(meta, aux, strict=True):
                object.__setattr__(obj, name, value)
            return obj

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return wrap


def hyperparameter(name: str, value: Any) -> Any:
    """Normalise a hyperparameter: convert scalars of any type to `float`, and copy NumPy arrays.

    A compiled function distinguishes an `int` 0 from a `float` 0.0; one type means one
    compilation. Raises `TypeError`, naming the hyperparameter, for anything but numbers.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ndarray) and value.ndim > 0 and value.dtype.kind in "iuf":
        return jax.numpy.array(value, jax.numpy.result_type(float))
    if isinstance(value, bool | str | bytes) or value is None:
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Convert to `int`. Raises `ValueError` unless the value is whole and at least `least`."""
    try:
        whole = int(value)
        exact = whole == value and not isinstance(value, bool)
    except (TypeError, ValueError):
        exact, whole = False, 0
    if not exact or whole < least:
        what = "a positive whole number" if least == 1 else f"a whole number ≥ {least}"
        raise ValueError(f"{name} must be {what}, got {value!r}")
    return whole


def require(name: str, value: Any, holds: Callable[[Any], Any], what: str) -> None:
    """Raise `ValueError` unless a concrete hyperparameter satisfies `holds` everywhere.

    Traced values pass: inside a transformation their numbers are unknown.
    """
    if isinstance(value, Tracer):
        return
    concrete = np.asarray(value)
    if not (np.all(np.isfinite(concrete)) and np.all(holds(concrete))):
        shown = value if isinstance(value, float) else concrete
        raise ValueError(f"{name} must be {what}, got {shown}")


def set_hyperparameter(owner: Any, name: str, holds: Callable[[Any], Any], what: str) -> None:
    """Normalise a field of a frozen object, and `require` that its value `holds`."""
    value = hyperparameter(name, getattr(owner, name))
    require(name, value, holds, what)
    object.__setattr__(owner, name, value)


def entry(batch: T, i: int) -> T:
    """Take entry i of every array's leading axis, on the host, so that nothing is compiled."""
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x)[i]), batch)


def stacked(items: Sequence[T]) -> T:
    """Stack the trees along a new leading axis, on the host for the same reason."""
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *items)
