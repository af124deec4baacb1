"""Conditions on the cells of a store: an SQL WHERE clause that cannot do anything else."""

import re
import sqlite3
from typing import Any

#: Text, quoted names, comments, and parentheses outside them.
_TOKENS = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | [();]""", re.DOTALL | re.VERBOSE
)
#: The operations that a query may use; SQLite refuses all others.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


def check(clause: str, columns: tuple[str, ...]) -> None:
    """Refuse text that ends the clause, and quoted names that SQLite would read as text.

    Raises `ValueError` that says what is wrong.
    """
    depth = 0
    for token in _TOKENS.findall(clause):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth < 0 or token == ";":
            raise ValueError(f"{token!r} ends the condition")
        if token.startswith('"') and token[1:-1].lower() not in columns:
            raise ValueError(f"no such column: {token}; put text in single quotes")
    if depth:
        raise ValueError("a parenthesis is not closed")


def authorise(action: int, first: Any, second: Any, *rest: Any) -> int:
    """For `sqlite3.Connection.set_authorizer`: allow reads of the cells' columns, and functions."""
    forbidden = action == sqlite3.SQLITE_FUNCTION and second == "load_extension"
    hidden = action == sqlite3.SQLITE_READ and (first != "cells" or second in ("file", "position"))
    allowed = action in _ALLOWED and not forbidden and not hidden
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
