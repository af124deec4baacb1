"""What the parser has against the arguments, in one line.

tyro draws a box of several lines on standard error, or where the encoding knows no boxes, rules of
minus signs under a title. The log of a script wants the sentence.
"""

import contextlib
import io
import re
from collections.abc import Iterator

_RULE = re.compile(r"^[─-]{8,}$")
_OPTION = re.compile(r"^\s{0,4}(--[a-z][\w-]*)")  # its description is indented further


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Raises `ValueError` with one line where parsing inside would end with a box and code 2."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as stop:
        if stop.code == 2:
            raise ValueError(condense(said.getvalue())) from None
        raise


def condense(box: str) -> str:
    """The complaint in a box, the options it suggests, and where to read on."""
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
