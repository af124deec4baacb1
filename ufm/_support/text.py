r"""Text from outside (names of files and arrays, titles, messages of errors), safe to be shown.

>>> plain("layer\x1b[31m.npz")
'layer\\x1b[31m.npz'
"""

import re
import shlex

#: Whatever is not plain ASCII: few characters, which are looked at one by one.
_UNUSUAL = re.compile("[^ -~]")


def plain(text: object) -> str:
    r"""The text, with every character that is not printed written as its escape.

    A terminal obeys control characters, and marks of direction swap what a reader sees: an ESC
    becomes the four characters "\x1b", a line break "\n".
    """
    return _UNUSUAL.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else repr(match[0])[1:-1]


def plain_lines(text: str) -> str:
    """The same of a text that has line breaks of its own."""
    return "\n".join(map(plain, text.split("\n")))


def command(*words: object) -> str:
    """The words as a shell reads them, whatever is in them, on one line that can be printed."""
    return " ".join(map(_quoted, map(str, words)))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_in_dollar_quotes, word))}'"


def _in_dollar_quotes(character: str) -> str:
    """As bash, zsh and ksh read it between $' and '."""
    code = ord(character)
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\U{code:08x}"
