"""Figures and tables of results: from a result to Axes or text.

Every plot draws on the given Axes and returns them. The caller, or `figure_files`, sets sizes and
writes files. `style()` is the look of the library: one or two columns of a paper, without
distinctions by colour alone (`looks`).
"""

from ufm._support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
