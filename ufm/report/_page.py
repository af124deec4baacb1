"""A self-contained HTML page: no network, no scripts, figures inline as SVG."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup, escape
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle

from ufm._support.strict_json import dumps
from ufm._support.text import plain, plain_lines
from ufm.report._style import Look, style


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    """The library's style for panels of a page, with larger letters because phones show pairs."""
    settings: dict[Any, Any] = {
        "figure.constrained_layout.use": False,
        # Keep text as text, in a font that a reader's machine may have.
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 10.5),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9.5),
    }
    with style(), matplotlib.rc_context(settings):
        yield


#: Colours of the style that are invisible on a dark background, and their replacements.
ON_DARK = {"#000000": "#e6e6e3", "#1f4fd0": "#7fa3ff", "#6e0f5e": "#d98fce"}
#: SVG commands of Matplotlib's path codes.
_COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}


def swatch(look: Look) -> Markup:
    """Draw a line with its marker for the legend of a page, hidden from screen readers."""
    colour, (offset, dashes) = to_hex(look.color), _dashes(look.linestyle)
    marker = MarkerStyle(look.marker)
    outline = marker.get_path().transformed(marker.get_transform())
    drawn = "".join(
        _COMMANDS[int(code)] + (" ".join(f"{5 * x:.2f}" for x in points) if code != 79 else "")
        for points, code in outline.iter_segments()
    )
    return Markup(
        '<svg aria-hidden="true" viewBox="-15 -5 30 10">'
        f'<path d="M-14 0H14" style="fill: none; stroke: {colour}; stroke-width: 2" '
        f'stroke-dasharray="{dashes}" stroke-dashoffset="{offset}"/>'
        f'<path d="{drawn}" transform="scale(1 -1)" style="fill: {colour}"/></svg>'
    )


def _dashes(linestyle: Any) -> tuple[float, str]:
    """Offset and lengths of dashes, for a line of width 2."""
    if linestyle == "-":
        return 0.0, "none"
    offset, lengths = linestyle
    return 2.0 * offset, " ".join(f"{2 * x:g}" for x in lengths)


def render(
    template: str,
    *,
    config: Mapping[str, Any],
    environments: Sequence[Mapping[str, Any]],
    **values: Any,
) -> str:
    """Render the page, with the sweep's file and all its machines at the end."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": _number,
        "integer": lambda x: f"{x:,}",
        "subscripts": _subscripts,
    }
    return templates.get_template(template).render(
        on_dark=ON_DARK,
        config=dumps(_given(config)),
        environment=_environment(environments),
        **values,
    )


def _shown(value: Any) -> Any:
    """Remove characters that a page cannot contain, or that reorder its text."""
    return plain_lines(value) if type(value) is str else value


def _number(value: float | int | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "—"
    return f"{value:.{digits}g}"


def _subscripts(text: str) -> Markup:
    """Write λ_W as λ with a subscript."""
    return Markup(re.sub(r"_(\w)", r"<sub>\1</sub>", str(escape(plain(text)))))


def _given(config: Any) -> Any:
    """Remove unset fields from the configuration."""
    if isinstance(config, Mapping):
        return {key: _given(value) for key, value in config.items() if value not in (None, "")}
    return [_given(value) for value in config] if isinstance(config, list) else config


def _environment(found: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Name → all values, in the order of the machines."""
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: [each.get(name) for each in found] for name in names}
    return {
        name: list(dict.fromkeys("unknown" if x is None else str(x) for x in column))
        for name, column in values.items()
    }
