"""Figures of results."""

from ufm.report.plots import plot_cosines as plot_cosines
from ufm.report.plots import plot_gap as plot_gap
from ufm.report.plots import plot_gradient_norm as plot_gradient_norm
from ufm.report.plots import style as style
