"""Figures as files for a paper: the image in three formats, its data and its caption.

The functions return names and contents, and do not write to the disk.
"""

import io
from collections.abc import Callable
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

from ufm.report._style import style
from ufm.report._table import Table, to_csv

#: A figure and its data.
Page = tuple[Figure, list[Table]]

#: Settings that omit dates and versions, so that equal data give equal bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def page_files(
    name: str, page: Callable[[Any], Page], records: Any, caption: str = ""
) -> list[tuple[str, bytes]]:
    r"""The .csv, .png, .pdf and .svg of one page, and the caption, if given, as .tex.

    The caption is LaTeX that needs no package, for \caption{\protect\input{name}}.
    """
    with style():
        figure, tables = page(records)
        # One layout for all formats, with text measured by the slowest of them.
        figure.set_dpi(rcParams["savefig.dpi"])
        layout = figure.get_layout_engine()
        if layout is not None:
            layout.execute(figure)
        figure.set_layout_engine("none")
        images = [(f"{name}.{kind}", _saved(figure, kind)) for kind in _METADATA]
    texts = [(f"{name}.csv", to_csv(tables).encode())]
    if caption:
        texts.append((f"{name}.tex", f"{caption}\n".encode()))
    return [*texts, *images]


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()
