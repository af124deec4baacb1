"""Figures and tables of results: a result in, Axes or text out.

Every plot draws on the Axes it is given and returns them; sizes and files are the caller's, or
`figure_files`'. `style()` is the look of the library: one column of a paper, colours that
colour-blind readers tell apart.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ufm.report._style import COLUMN as COLUMN
    from ufm.report._style import style as style
    from ufm.report.collapse import plot_collapse as plot_collapse
    from ufm.report.convergence import plot_gap as plot_gap
    from ufm.report.convergence import plot_gradient_norm as plot_gradient_norm
    from ufm.report.feature_view import plot_features as plot_features
    from ufm.report.folder import LossRecord as LossRecord
    from ufm.report.folder import figure_files as figure_files
    from ufm.report.gram import plot_cosines as plot_cosines
    from ufm.report.gram import plot_grams as plot_grams
    from ufm.report.landscape import plot_curvature_ratio as plot_curvature_ratio
    from ufm.report.landscape import plot_index as plot_index
    from ufm.report.landscape import plot_least_curvature as plot_least_curvature
    from ufm.report.landscape_flow import plot_flow as plot_flow
    from ufm.report.landscape_flow import plot_flow_gradient as plot_flow_gradient
    from ufm.report.landscape_graph import plot_graph as plot_graph
    from ufm.report.landscape_pages import landscape_files as landscape_files
    from ufm.report.network_grid import plot_accuracy_gap as plot_accuracy_gap
    from ufm.report.network_grid import plot_forest as plot_forest
    from ufm.report.network_pages import network_files as network_files
    from ufm.report.networks import plot_network_curve as plot_network_curve
    from ufm.report.phase import diagram as diagram
    from ufm.report.phase_view import plot_phase as plot_phase
    from ufm.report.phases import phases_files as phases_files
    from ufm.report.phases import plot_phases as plot_phases
    from ufm.report.singular_values import (
        plot_gradient_singular_values as plot_gradient_singular_values,
    )
    from ufm.report.singular_values import plot_logit_singular_values as plot_logit_singular_values
    from ufm.report.spectrum import plot_spectrum as plot_spectrum
    from ufm.report.spectrum import theory_lines as theory_lines
    from ufm.report.spectrum_pages import spectrum_files as spectrum_files
    from ufm.report.spectrum_pages import spectrum_path_files as spectrum_path_files
    from ufm.report.sweep_page import render_sweep as render_sweep

# Loaded on first use: a table needs no matplotlib, which takes half a second to import.
_HOME = {
    "COLUMN": "ufm.report._style",
    "LossRecord": "ufm.report.folder",
    "diagram": "ufm.report.phase",
    "figure_files": "ufm.report.folder",
    "plot_collapse": "ufm.report.collapse",
    "plot_cosines": "ufm.report.gram",
    "landscape_files": "ufm.report.landscape_pages",
    "plot_curvature_ratio": "ufm.report.landscape",
    "plot_flow": "ufm.report.landscape_flow",
    "plot_flow_gradient": "ufm.report.landscape_flow",
    "plot_graph": "ufm.report.landscape_graph",
    "plot_index": "ufm.report.landscape",
    "plot_least_curvature": "ufm.report.landscape",
    "plot_features": "ufm.report.feature_view",
    "plot_gap": "ufm.report.convergence",
    "plot_gradient_norm": "ufm.report.convergence",
    "plot_gradient_singular_values": "ufm.report.singular_values",
    "plot_grams": "ufm.report.gram",
    "plot_logit_singular_values": "ufm.report.singular_values",
    "network_files": "ufm.report.network_pages",
    "plot_accuracy_gap": "ufm.report.network_grid",
    "plot_forest": "ufm.report.network_grid",
    "plot_network_curve": "ufm.report.networks",
    "phases_files": "ufm.report.phases",
    "plot_phases": "ufm.report.phases",
    "plot_spectrum": "ufm.report.spectrum",
    "plot_phase": "ufm.report.phase_view",
    "spectrum_files": "ufm.report.spectrum_pages",
    "spectrum_path_files": "ufm.report.spectrum_pages",
    "style": "ufm.report._style",
    "render_sweep": "ufm.report.sweep_page",
    "theory_lines": "ufm.report.spectrum",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]  # computed


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ufm.report' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
