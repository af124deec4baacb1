r"""Make text from outside (names of files and arrays, titles, error messages) safe to show.

>>> plain("layer\x1b[31m.npz")
'layer\\x1b[31m.npz'
"""

import re
import shlex

#: Characters beyond plain ASCII: few enough to be checked one by one.
_UNUSUAL = re.compile("[^ -~]")


def plain(text: object) -> str:
    r"""Escape every character that is not printable.

    A terminal obeys control characters, and direction marks change the order that a reader sees: an
    ESC becomes the four characters "\x1b", a line break "\n".
    """
    return _UNUSUAL.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else repr(match[0])[1:-1]


def plain_lines(text: str) -> str:
    """Do the same, but keep line breaks."""
    return "\n".join(map(plain, text.split("\n")))


def command(*words: object) -> str:
    """Quote the words for a shell, on one printable line."""
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_in_dollar_quotes, word))}'"


def _in_dollar_quotes(character: str) -> str:
    """Escape a character as bash, zsh and ksh read it between $' and '."""
    code = ord(character)
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\U{code:08x}"
