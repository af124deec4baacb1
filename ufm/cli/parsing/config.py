"""Read options of a command from a file: `--config FILE.toml`, overridden by flags.

A command that has a `config` field is its own schema: its other fields are the keys of the file.

    losses = ["ce", "ls:0.1"]
    num_classes = 4
    lam_b = "none"      # where a flag takes None

The config.json in a folder of results is such a file too, and repeats its run.
"""

import argparse
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

Options = TypeVar("Options", bound=msgspec.Struct)

#: The field that names the file, which the file itself cannot set.
_FIELD = "config"
HELP = {"-h", "--help"}


def defaults(
    args: Sequence[str], commands: Mapping[str, type[msgspec.Struct]]
) -> msgspec.Struct | None:
    """The options in the file named by `--config`, or None if no file is named.

    Help does not read the file.
    """
    if HELP & set(args):
        return None
    if not args or _FIELD not in getattr(commands.get(args[0]), "__struct_fields__", ()):
        return None
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--config", type=Path)
    try:
        path = reader.parse_known_args(list(args[1:]))[0].config
    except argparse.ArgumentError:
        return None  # no file after --config: the command's own parser says so
    return None if path is None else load(path, commands[args[0]])


def load(path: Path, options: type[Options]) -> Options:
    """Read a TOML file (or a .json one) as the options of a command.

    Raises `ValueError`, naming the file and the field, for an invalid file, and `OSError` if it
    cannot be read.
    """
    from ufm._support import settings

    content = settings.read(path)
    fields = [name for name in options.__struct_fields__ if name != _FIELD]
    for name in content:
        if name not in fields:
            raise ValueError(f"{path}: unknown field {name!r}{settings.perhaps(name, fields)}")
    hints = typing.get_type_hints(options)
    values = {name: _none(value, hints[name]) for name, value in content.items()}
    try:
        return settings.convert(values, options, dec_hook=_path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _none(value: Any, hint: Any) -> Any:
    """Convert "none" to None in fields that may be None, since TOML has no null; as for flags."""
    optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
    return None if optional and isinstance(value, str) and value.lower() == "none" else value


def with_none(args: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """Spell "none" as the parser's None in options whose number may be None.

    Other options keep it: "none" is a norm of a network, and may be the name of a folder.
    """
    command = commands.get(args[0]) if args else None
    hints = {} if command is None else typing.get_type_hints(command)
    numbers = {
        f"--{name.replace('_', '-')}"
        for name, hint in hints.items()
        if hint in (float | None, int | None)
    }
    read = list(args)
    for i, argument in enumerate(read):
        flag, equals, value = argument.partition("=")
        if flag.replace("_", "-") not in numbers:
            continue
        if equals and value.lower() == "none":
            read[i] = f"{flag}=None"
        elif not equals and i + 1 < len(read) and read[i + 1].lower() == "none":
            read[i + 1] = "None"
    return read


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
