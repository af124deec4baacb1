"""Phase diagrams: where values stand, and what is drawn of them."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from phase_tables import NAN, table_of

from ufm.report import diagram, plot_phase
from ufm.report.phase.axis import axis
from ufm.report.phase.plane import plane, slices


def labels(ticked) -> dict[float, str]:
    places = ticked.get_majorticklocs().tolist()
    words = ticked.get_major_formatter().format_ticks(places)
    return dict(zip(places, words, strict=True))


# No bias -------------------------------------------------------------------------------------


def test_no_bias_has_a_place_with_a_name_in_a_plane():
    table = table_of(lam_w=[0.01, 0.1, 1.0], lam_b=[NAN, 0.0, 0.01], tied=True)
    found = diagram(table, "gap")
    y = found.plane.y
    assert (y.name, y.named) == ("lam_b", ((-0.01, "none"),))
    axes = plot_phase(found, Figure().subplots())
    assert labels(axes.yaxis) == {-0.01: "none", 0.0: "0", 0.01: "0.01"}
    # The drawn row of "none" are the cells without bias, λ_W ascending.
    mesh = axes.collections[-1].get_array()
    np.testing.assert_array_equal(mesh[0], table["gap"][np.isnan(table["lam_b"])])
    # For CE the bias moves no threshold: one line through all of its cells.
    np.testing.assert_allclose(found.curve[:, 0], 1 / (4 * math.sqrt(5)), rtol=1e-12)
    assert (found.curve[0, 1], found.curve[-1, 1]) == (-0.015, 0.015)


def test_no_bias_has_a_place_with_a_name_on_a_line():
    found = diagram(table_of(lam_b=[NAN, 0.0, 0.01]), "gap")
    assert found.plane.x.name == "lam_b"
    axes = plot_phase(found, Figure().subplots())
    numbers, names = axes.lines
    np.testing.assert_array_equal(numbers.get_xydata(), [[0.0, 2.0], [0.01, 3.0]])
    np.testing.assert_array_equal(names.get_xydata(), [[-0.01, 1.0]])
    assert names.get_linestyle() == "None"  # nothing lies between none and 0
    assert labels(axes.xaxis) == {-0.01: "none", 0.0: "0", 0.01: "0.01"}
    assert axes.get_xlabel() == r"$\lambda_b$"


def test_zero_and_none_stand_left_of_a_logarithmic_axis():
    found = axis(table_of(lam_b=[1.0, 0.0, NAN, 0.1]), "lam_b")
    assert found.log
    np.testing.assert_allclose(found.levels, [1e-3, 1e-2, 0.1, 1.0])
    np.testing.assert_allclose(found.at, [1.0, 1e-2, 1e-3, 0.1])
    assert [word for _, word in found.named] == ["0", "none"]
    assert found.describe(0) == "λ_b = none"


# Class counts, and fields that go along with others ------------------------------------------


def test_class_counts_are_categories_and_never_minus_one():
    table = table_of(lam_w=[0.01, 1.0], class_counts=["5 5 5 5", "8 6 4 2", "3 3"], tied=True)
    found = diagram(table, "gap")
    assert found.plane.y.name == "class_counts"
    axes = plot_phase(found, Figure().subplots())
    assert labels(axes.yaxis) == {0.0: "5,5,5,5", 1.0: "8,6,4,2", 2.0: "3,3"}
    # The threshold is known of equal classes alone: 1/(K√n), across their cells.
    parts = found.curve[~np.isnan(found.curve[:, 0])]
    low, high = 1 / (4 * math.sqrt(5)), 1 / (2 * math.sqrt(3))
    np.testing.assert_allclose(parts[:, 0], [low, low, high, high])
    assert parts[:, 1].tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert np.isnan(found.curve).any()
    alone = diagram(table_of(class_counts=["2 1", "1 2"]), "gap")
    assert (alone.plane.x.name, alone.x.tolist()) == ("class_counts", [0.0, 1.0])


def test_names_fit_into_lines_and_differ():
    counts = " ".join(["100"] * 50 + ["10"] * 50)
    assert axis(table_of(class_counts=[counts, "1 2"]), "class_counts").named[0][1] == (
        "50×100\n50×10"
    )
    methods = axis(table_of(method=["newton", "gradient_descent"]), "method")
    assert [word for _, word in methods.named] == ["newton", "gradient\ndescent"]
    assert methods.describe(1) == "method = gradient descent"
    # Runs of other lengths between the first and the last are not seen: numbers tell them apart.
    same = [" ".join(["1", *["2"] * k, "3", "4", "5", "6"]) for k in (1, 2)]
    named = axis(table_of(class_counts=same), "class_counts").named
    assert [word for _, word in named] == ["list 1", "list 2"]


def test_a_zipped_sweep_is_a_line_along_which_all_fields_vary():
    table = table_of(
        zipped=True, family=["ls"] * 3, alpha=[0.0, 0.2, 0.4],
        lam_w=[0.01, 0.1, 0.2], lam_h=[0.9, 0.5, 0.1],
    )  # fmt: skip
    found = plane(table)
    assert (found.x.name, found.y, found.along) == ("lam_w", None, ("lam_h", "alpha"))
    assert (found.others, found.curve.size) == ((), 0)  # nothing says where it is crossed


def test_what_differs_within_a_point_is_told_from_what_varies_along():
    table = table_of(lam_w=[0.1, 0.2], lam_h=[0.1, 0.3], dim=[6, 7], method=["newton", "lbfgs"])
    assert plane(table).others == ("dim", "method")
    rng = np.random.default_rng(0)
    drawn = {name: rng.uniform(0.1, 1, 9).tolist() for name in ("lam_w", "lam_h", "start_scale")}
    found = plane(table_of(zipped=True, **drawn))
    assert (found.others, found.along) == ((), ("start_scale",))
    assert not found.is_grid
    # Decays of each problem's own, as multiples of a threshold are: no grid with holes either.
    own = plane(
        table_of(
            zipped=True,
            tied=True,
            family=["ls"] * 4,
            alpha=[0.0, 0.0, 0.5, 0.5],
            lam_w=[0.1, 0.2, 0.05, 0.11],
        )
    )
    assert (own.is_grid, own.has_holes) == (False, False)


def test_a_diagram_is_of_one_family():
    with pytest.raises(ValueError, match="one loss family, got ce, mse"):
        plane(table_of(family=["ce", "mse"], lam_w=[0.1, 0.2]))
    with pytest.raises(ValueError, match="one of verdict, gap"):
        diagram(table_of(lam_w=[0.1, 0.2]), "nc9")


# Slices --------------------------------------------------------------------------------------


def test_a_third_field_makes_slices_with_a_curve_each():
    alphas = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    table = table_of(family="ls", alpha=alphas, lam_w=[0.01, 0.1], lam_h=[0.02, 0.2])
    cut = slices(table)
    assert [part.label for part in cut.parts] == ["α = 0", "α = 0.2", "α = 0.4", "α = 0.6"]
    assert cut.note == "4 of 7 values of α are drawn"
    for alpha, part in zip((0.0, 0.2, 0.4, 0.6), cut.parts, strict=True):
        found = plane(part.table)
        assert (found.x.name, found.y.name, found.others) == ("lam_w", "lam_h", ())
        expected = ((1 - alpha) / (4 * math.sqrt(5))) ** 2
        np.testing.assert_allclose(found.curve.prod(axis=1), expected, rtol=1e-12)
    # Of all slices at once no curve is true.
    assert plane(table).curve.size == 0


def test_what_has_no_plane_in_its_slices_is_not_cut():
    rng = np.random.default_rng(1)
    drawn = {name: rng.uniform(0.1, 1, 9).tolist() for name in ("lam_w", "lam_h", "start_scale")}
    (part,) = slices(table_of(zipped=True, **drawn)).parts
    assert (part.label, len(part.table["lam_w"])) == ("", 9)


# What is drawn -------------------------------------------------------------------------------


def test_the_size_by_theory_is_shown_where_it_is_proven():
    table = table_of(lam_w=[0.1, 0.2, 0.3])
    table |= {"rho_star": np.array([1.0, 2.0, NAN]), "minimum_exact": np.array([1, 0, 1])}
    np.testing.assert_array_equal(diagram(table, "rho_star").value, [1.0, NAN, NAN])


def test_nc4_is_shown_where_there_is_geometry():
    table = table_of(lam_w=[0.1, 0.2, 0.3])
    table |= {"nc4": np.array([0.0, 0.25, 0.5]), "kind": np.array(["simplex ETF"] * 2 + ["origin"])}
    found = diagram(table, "nc4")
    np.testing.assert_array_equal(found.value, [0.0, 0.25, NAN])
    assert plot_phase(found, Figure().subplots()).get_yscale() == "linear"


def test_a_run_without_a_bound_hides_the_gaps_of_the_others():
    table = table_of(lam_w=[0.1, 0.2], start_scale=[0.1])
    doubled = {name: np.repeat(column, 2) for name, column in table.items()}
    doubled["gap"] = np.array([1e-9, math.inf, 1e-9, 2e-9])
    np.testing.assert_array_equal(diagram(doubled, "gap").value, [NAN, 2e-9])


def test_what_is_rounding_is_at_its_bound():
    """NC1 below eps; of gaps what is no more than twice the largest rounding of any cell."""
    table = table_of(lam_w=[0.01, 0.1, 1.0], lam_h=[0.01, 0.1])
    table |= {"nc1": np.array([1e-30, 1e-18, 1e-9, 2e-9, 3e-9, 0.0])}
    table |= {"gap": np.array([1e-15, 4e-14, 1e-9, 1e-9, 1e-9, 1e-9])}
    table |= {"rounding": np.array([1e-15, 3e-14, 1e-15, 1e-15, 1e-15, 1e-15])}
    eps = 2.0**-52
    expected = {"nc1": [eps, eps, 1e-9, 2e-9, 3e-9, eps], "gap": [6e-14, 6e-14, *[1e-9] * 4]}
    for name, values in expected.items():
        found = diagram(table, name)
        np.testing.assert_array_equal(sorted(found.value), sorted(values))
        figure = Figure()
        plot_phase(found, figure.subplots())
        bar = figure.axes[-1].get_label()
        assert bar == "<colorbar>"
    line = diagram({k: x[::2] for k, x in table.items()} | {"lam_h": np.full(3, 0.01)}, "nc1")
    axes = plot_phase(line, Figure().subplots())
    (shaded,) = axes.patches
    np.testing.assert_allclose(shaded.get_y() + shaded.get_height(), eps)


def test_zeros_are_drawn_below_a_logarithmic_scale_and_holes_not_at_all():
    table = table_of(lam_w=[0.01, 0.1, 1.0], lam_h=[0.01, 0.1])
    table = {name: column[:-1] for name, column in table.items()}  # one is not finished
    table["nc1"] = np.array([0.0, 1e-9, 1e-8, NAN, 1e-7])
    found = diagram(table, "nc1")
    assert found.plane.has_holes
    axes = plot_phase(found, Figure().subplots())
    blank, mesh = (each.get_array() for each in axes.collections[:2])
    np.testing.assert_array_equal(~np.ma.getmaskarray(blank), [[0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(~np.ma.getmaskarray(mesh), [[1, 1, 1], [1, 0, 0]])
    assert mesh[0, 0] > 0
