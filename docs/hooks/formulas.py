r"""Formulas as MathML when the site is built: `$…$` inline, `$$…$$` on lines of their own.

Every browser of today renders MathML by itself, so that the site ships no script for it.
"""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """The page with every formula that Markdown marked."""
    return _FORMULA.sub(
        lambda found: convert(unescape(found[3]), display="block" if found[2] == "[" else "inline"),
        html,
    )
