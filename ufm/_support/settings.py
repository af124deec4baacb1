"""Read settings from a text file; report an error in one line that names the field.

    values = read(Path("mine.toml"))
    convert(values, Options)        # ValueError: problem.dim: expected int, got str

A schema is a `msgspec.Struct` with `forbid_unknown_fields`: a misspelt field is an error that
suggests a similar name.
"""

import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def read(path: Path) -> dict[str, Any]:
    """Read a TOML or a .json file.

    Raises `ValueError`, naming the file, if it is neither, and `OSError` if it cannot be read.
    """
    kind = "JSON" if path.suffix == ".json" else "TOML"
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
        content = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not {kind}: it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError(f"{path} is not {kind}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not {kind}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold fields and their values, as in config.json")
    return content


def convert(values: Any, schema: type[T], dec_hook: Callable[[type, Any], Any] | None = None) -> T:
    """Convert the values to the schema's types. Raises `ValueError` with the path to the field."""
    try:
        return msgspec.convert(values, schema, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise ValueError(_with_field(str(error), schema)) from None


def check_seed(name: str, seed: int) -> int:
    """Return the seed. Raises `ValueError`, naming the field, unless it is in [0, 2^32)."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name} must be in [0, 2^32), got {seed}")
    return seed


def perhaps(name: str, fields: Sequence[str]) -> str:
    """The end of a message about an unknown name: a similar name, or all known names."""
    similar = difflib.get_close_matches(name.lower().replace("-", "_"), fields, n=1)
    return f"; perhaps you meant {similar[0]!r}" if similar else f"; known are {', '.join(fields)}"


def _with_field(message: str, schema: Any) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.dim`" as "dim: expected int, got str"."""
    found = re.fullmatch(r"(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<field>.*)`)?", message)
    assert found is not None  # every text matches
    field = found["field"] or ""
    what = _explained(found["what"].replace("`", ""), field, schema)
    what = what[:1].lower() + what[1:]
    return f"{field}: {what}" if field else what


def _explained(what: str, field: str, schema: Any) -> str:
    """Add to a message what the field accepts."""
    kinds = list(_kinds_at(schema, field))
    structs = [kind for kind in kinds if _is_struct(kind)]
    missing = re.fullmatch(r"Object missing required field (?P<name>.*)", what)
    if missing is not None:
        return f"the field {missing['name']!r} is missing"
    unknown = re.fullmatch(r"Object contains unknown field (?P<name>.*)", what)
    if unknown is not None:
        known = [_written(kind, name) for kind in structs for name in kind.__struct_fields__]
        # Tables distinguished by a tag: the field is known, but in another table.
        elsewhere = unknown["name"] in known
        hint = "; it belongs to another" if elsewhere else perhaps(unknown["name"], known)
        return f"unknown field {unknown['name']!r}{hint}"
    choices = [x for kind in kinds if _is_literal(kind) for x in typing.get_args(kind)]
    if choices and (len(kinds) == 1 or "enum" in what):
        others = ", or a number" if len(kinds) > 1 else ""
        return f"choose one of {', '.join(choices)}{others}; {what}"
    parent, _, name = field.rpartition(".")
    tags = [
        kind.__struct_config__.tag
        for kind in _kinds_at(schema, parent)
        if _is_struct(kind) and kind.__struct_config__.tag_field == name
    ]
    if tags:
        return f"choose one of {', '.join(map(str, tags))}; {what}"
    return what.replace("object", "table")


def _kinds_at(schema: Any, field: str) -> Iterator[Any]:
    """The types allowed at a path such as "problem.lam_w" or "loss[0]", with unions split."""
    kinds = list(_alternatives(schema))
    for name in re.findall(r"[^.\[\]]+|\[[^\]]*\]", field):
        if name.startswith("["):
            inner = [arg for kind in kinds for arg in typing.get_args(kind)]
        else:
            inner = [
                typing.get_type_hints(kind, include_extras=False).get(given)
                for kind in kinds
                if _is_struct(kind)
                for given in kind.__struct_fields__
                if _written(kind, given) == name
            ]
        kinds = [part for kind in inner for part in _alternatives(kind)]
    yield from kinds


def _alternatives(kind: Any) -> Iterator[Any]:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        for part in typing.get_args(kind):
            yield from _alternatives(part)
    else:
        yield kind


def _is_literal(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Literal


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _written(kind: type[msgspec.Struct], name: str) -> str:
    """The name of a field in a file."""
    return dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))[name]
