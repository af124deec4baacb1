"""Figures and tables of results: from a result to Axes or text.

Every plot draws on the given Axes and returns them. The caller, or `figure_files`, sets sizes and
writes files. `style()` is the look of the library: one or two columns of a paper, without
distinctions by colour alone (`looks`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ufm.report._style import COLUMN as COLUMN
    from ufm.report._style import TWO_COLUMNS as TWO_COLUMNS
    from ufm.report._style import looks as looks
    from ufm.report._style import style as style
    from ufm.report.landscape.census import plot_curvature_ratio as plot_curvature_ratio
    from ufm.report.landscape.census import plot_index as plot_index
    from ufm.report.landscape.census import plot_least_curvature as plot_least_curvature
    from ufm.report.landscape.flow import plot_flow as plot_flow
    from ufm.report.landscape.flow import plot_flow_gradient as plot_flow_gradient
    from ufm.report.landscape.graph import plot_graph as plot_graph
    from ufm.report.landscape.pages import landscape_files as landscape_files
    from ufm.report.networks.curves import plot_network_curve as plot_network_curve
    from ufm.report.networks.grid import plot_accuracy_gap as plot_accuracy_gap
    from ufm.report.networks.grid import plot_forest as plot_forest
    from ufm.report.networks.pages import network_files as network_files
    from ufm.report.phase.decay import decay_files as decay_files
    from ufm.report.phase.decay import plot_decay as plot_decay
    from ufm.report.phase.depth import depth_files as depth_files
    from ufm.report.phase.depth import plot_depths as plot_depths
    from ufm.report.phase.diagram import diagram as diagram
    from ufm.report.phase.focal import phases_files as phases_files
    from ufm.report.phase.focal import plot_phases as plot_phases
    from ufm.report.phase.view import plot_phase as plot_phase
    from ufm.report.runs.collapse import plot_collapse as plot_collapse
    from ufm.report.runs.convergence import plot_gap as plot_gap
    from ufm.report.runs.convergence import plot_gradient_norm as plot_gradient_norm
    from ufm.report.runs.feature_view import plot_features as plot_features
    from ufm.report.runs.folder import LossRecord as LossRecord
    from ufm.report.runs.folder import figure_files as figure_files
    from ufm.report.runs.gram import plot_cosines as plot_cosines
    from ufm.report.runs.gram import plot_grams as plot_grams
    from ufm.report.runs.singular_values import (
        plot_gradient_singular_values as plot_gradient_singular_values,
    )
    from ufm.report.runs.singular_values import (
        plot_logit_singular_values as plot_logit_singular_values,
    )
    from ufm.report.spectra.pages import spectrum_files as spectrum_files
    from ufm.report.spectra.pages import spectrum_path_files as spectrum_path_files
    from ufm.report.spectra.spectrum import plot_spectrum as plot_spectrum
    from ufm.report.spectra.spectrum import theory_lines as theory_lines
    from ufm.report.sweep.page import render_sweep as render_sweep

# Loaded on first use, because matplotlib takes half a second to import and tables do not need it.
_NAMES = {
    "ufm.report._style": ("COLUMN", "TWO_COLUMNS", "looks", "style"),
    "ufm.report.landscape.census": ("plot_curvature_ratio", "plot_index", "plot_least_curvature"),
    "ufm.report.landscape.flow": ("plot_flow", "plot_flow_gradient"),
    "ufm.report.landscape.graph": ("plot_graph",),
    "ufm.report.landscape.pages": ("landscape_files",),
    "ufm.report.networks.curves": ("plot_network_curve",),
    "ufm.report.networks.grid": ("plot_accuracy_gap", "plot_forest"),
    "ufm.report.networks.pages": ("network_files",),
    "ufm.report.phase.decay": ("decay_files", "plot_decay"),
    "ufm.report.phase.depth": ("depth_files", "plot_depths"),
    "ufm.report.phase.diagram": ("diagram",),
    "ufm.report.phase.focal": ("phases_files", "plot_phases"),
    "ufm.report.phase.view": ("plot_phase",),
    "ufm.report.runs.collapse": ("plot_collapse",),
    "ufm.report.runs.convergence": ("plot_gap", "plot_gradient_norm"),
    "ufm.report.runs.feature_view": ("plot_features",),
    "ufm.report.runs.folder": ("LossRecord", "figure_files"),
    "ufm.report.runs.gram": ("plot_cosines", "plot_grams"),
    "ufm.report.runs.singular_values": (
        "plot_gradient_singular_values",
        "plot_logit_singular_values",
    ),
    "ufm.report.spectra.pages": ("spectrum_files", "spectrum_path_files"),
    "ufm.report.spectra.spectrum": ("plot_spectrum", "theory_lines"),
    "ufm.report.sweep.page": ("render_sweep",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]  # computed


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ufm.report' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
