"""A network's Hessian drawn: counts add up, unresolved is not drawn, sticks are what was found."""

import numpy as np
from figures import check_print
from matplotlib.figure import Figure

from ufm.report import style
from ufm.report.networks.hessian import (
    hessian_page,
    plot_model_spectrum,
    plot_network_spectrum,
    smoothed_count,
)

#: Two probes of a Hessian of dimension 100 whose eigenvalues are known: 1 of 8, 10 of −0.5, 88 of
#: 0.05, and 1 of 1e-5, which 100 products do not tell from 0.
MEASURED = {
    "loss": "ce",
    "num_classes": 3,
    "num_parameters": 100,
    "nodes": [[-0.5, 1e-5, 0.05, 8.0]] * 2,
    "weights": [[0.1, 0.01, 0.88, 0.01]] * 2,
    "largest_values": [8.0, 0.05, 0.05],
    "eigenvalues": [-1e-19, 0.01, 0.2],
    "multiplicities": [7, 5, 2],
}


def test_a_lone_eigenvalue_is_as_high_as_it_is_often():
    for sign, where, often in ((1, 0.05, 88), (1, 8.0, 1), (-1, 0.5, 10)):
        x, count = smoothed_count(MEASURED, sign)
        near = np.abs(np.log10(x / where)) < 0.2
        assert np.isclose(count[near].max(), often, rtol=0.02)
        # Σ over a decade's points of a Gaussian of 0.06 decades.
        total = np.trapezoid(count[near], np.log10(x[near])) / (0.06 * np.sqrt(2 * np.pi))
        assert np.isclose(total, often, rtol=0.01)


def test_what_is_not_resolved_is_shaded_and_not_drawn():
    axes = plot_network_spectrum(MEASURED, Figure().subplots())
    curves = [line for line in axes.lines if len(line.get_xdata()) > 10]
    for line in curves:
        seen = np.isfinite(line.get_ydata())
        assert line.get_xdata()[seen].min() >= 8e-3
    assert np.isclose(axes.patches[0].get_x() + axes.patches[0].get_width(), 8e-3)


def test_sticks_are_the_eigenvalues_and_outliers_are_filled():
    top, bottom = Figure().subplots(1, 2)
    plot_network_spectrum(MEASURED, top)
    plot_model_spectrum(MEASURED, bottom)
    marks = [line for line in top.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in marks] == [[8.0, 0.05], [0.05]]
    assert marks[1].get_markerfacecolor() == "white"
    hollow = [line for line in bottom.lines if line.get_marker() == "o"][1]
    assert hollow.get_xdata().tolist() == [0.01, 0.2]  # and no rounding
    assert hollow.get_ydata().tolist() == [5, 2]


def test_the_page_is_fit_for_print_where_the_model_has_no_spectrum_too():
    other = MEASURED | {"loss": "mse:1.0,15.0", "eigenvalues": [], "multiplicities": []}
    with style():
        figure, tables = hessian_page([MEASURED, other])
        figure.draw_without_rendering()
        check_print(figure)
    assert [table["what"] for table in tables if table["loss"] == "ce"][-1] == "model"
