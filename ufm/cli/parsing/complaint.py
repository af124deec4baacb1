"""Report invalid arguments in one line.

tyro draws a box of several lines on standard error, or rules of minus signs if the encoding has no
boxes. One sentence is better in the log of a script.
"""

import contextlib
import io
import re
from collections.abc import Iterator

_RULE = re.compile(r"^[─-]{8,}$")
_OPTION = re.compile(r"^\s{0,4}(--[a-z][\w-]*)")  # its description is indented further


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Raise `ValueError` with one line if parsing within this context would end with a box."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as stop:
        if stop.code == 2:
            raise ValueError(condense(said.getvalue())) from None
        raise


def condense(box: str) -> str:
    """The message in a box, the suggested options, and the pointer to the help."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        inside = line.removeprefix("│ ").removeprefix("  ").rstrip("│ ")
        if _RULE.match(inside.strip()):
            parts.append([])
        elif inside and not inside.startswith(("╭", "╰")):
            parts[-1].append(inside)
    boxed = box.lstrip().startswith("╭")  # its title is part of the frame
    first, *rest = parts if boxed or len(parts) == 1 else parts[1:]
    said = [" ".join(" ".join(first).split("Got errors:")[0].split()).rstrip(".")]
    for part in rest:
        text = " ".join(" ".join(part).split())
        if text.startswith("Perhaps you meant"):
            options = [found[1] for line in part if (found := _OPTION.match(line))]
            said.append("perhaps you meant " + " or ".join(dict.fromkeys(options)))
        elif text.startswith("Available"):
            said.append(text[0].lower() + text[1:])
        elif text.startswith("For full helptext"):
            said.append("see " + text[text.index("ufm") :])
    return "; ".join(said)
