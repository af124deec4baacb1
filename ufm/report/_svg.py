"""Panels as elements of an HTML page: SVG without prologue, with unique ids."""

import html
import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm._support.text import plain

#: Width and height of a panel in inches: a phone shows one per row, a screen three or four.
_PANEL = (2.9, 2.3)


def panel(
    name: str,
    description: str,
    draw: Callable[[Axes], Any],
    margins: dict[str, float] | None = None,
) -> Markup:
    """Draw a panel as an element whose ids begin with `name`.

    `margins` place the Axes; None computes their place, which takes longer.
    """
    figure = Figure(figsize=_PANEL, layout=None if margins else "constrained")
    axes = figure.subplots()
    if margins:
        figure.subplots_adjust(**margins)
    draw(axes)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    return Markup(inline(buffer.getvalue(), name, description))


def inline(svg: str, name: str, description: str) -> str:
    """Convert an SVG file to an element, without prologue and metadata, scaled by the page.

    Both texts may contain any characters. Only the characters of `name` that ids and addresses
    allow are kept, so names must differ in those.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    referenced = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in referenced else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    svg = re.sub(r"(url\(|href=\")#", rf"\g<1>#{name}-", svg)
    size = re.search(r'viewBox="([^"]*)"', svg)
    assert size is not None  # matplotlib writes exactly one
    said = html.escape(plain(description), quote=True)
    attributes = f'role="img" aria-label="{said}" viewBox="{size[1]}"'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    # A function as the replacement preserves a backslash in the description.
    return re.sub(r"<svg[^>]*>", lambda _: f"<svg {names} {attributes}>", svg, count=1)
