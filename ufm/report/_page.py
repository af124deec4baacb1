"""One HTML page that needs nothing else: no network, no scripts, figures inline as SVG."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup, escape

from ufm._support.strict_json import dumps
from ufm._support.text import plain, plain_lines
from ufm.report._style import style


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    """The library's look for panels of a page."""
    settings: dict[Any, Any] = {
        "figure.constrained_layout.use": False,
        # Text stays text, in a face that a reader's machine may have.
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
    }
    with style(), matplotlib.rc_context(settings):
        yield


def render(
    template: str,
    *,
    config: Mapping[str, Any],
    environments: Sequence[Mapping[str, Any]],
    **values: Any,
) -> str:
    """The page, with the sweep's file and all machines that computed for it at the end."""
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
        config=dumps(_given(config)), environment=_environment(environments), **values
    )


def _shown(value: Any) -> Any:
    """Text without characters that a page cannot have, or that swap what is read."""
    return plain_lines(value) if type(value) is str else value


def _number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "—"
    return f"{value:.{digits}g}"


def _subscripts(text: str) -> Markup:
    """λ_W as λ with a subscript."""
    return Markup(re.sub(r"_(\w)", r"<sub>\1</sub>", str(escape(plain(text)))))


def _given(config: Any) -> Any:
    """The configuration without what was left unset."""
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
