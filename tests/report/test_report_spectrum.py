"""Drawn spectra: plotted data equals the spectrum, labels stand apart."""

import csv
import dataclasses
import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest
from figures import names_of
from matplotlib.text import Text
from points import SKEWED, make

from ufm import MSE, CrossEntropy, SpectrumPath, spectrum
from ufm.report import plot_spectrum, spectrum_files, spectrum_path_files, style, theory_lines
from ufm.report.spectra.pages import path_page
from ufm.report.spectra.spectrum import Sticks, common_limits, hill, legend_handles, sticks
from ufm.spectra.at_points import SpectrumRecord, record_at

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

PROBLEM = make(CrossEntropy(), lam_b=1e-2)


@pytest.fixture
def axes():
    with style():
        figure, axes = plt.subplots()
        yield axes
        plt.close(figure)


def drawn(axes, kind) -> np.ndarray:
    """Heads of the sticks of a kind, ascending."""
    points = [np.column_stack(x.get_data()) for x in axes.lines if x.get_label() == kind]
    return np.concatenate(points) if points else np.empty((0, 2))


def stems(axes) -> np.ndarray:
    """Heads of all vertical lines, which begin at the bottom."""
    segments = np.concatenate(
        [x.get_segments() for x in axes.collections if hasattr(x, "get_segments")]
    )
    np.testing.assert_array_equal(segments[:, 0, 0], segments[:, 1, 0])
    assert np.all(segments[:, 0, 1] == axes.get_ylim()[0])
    return segments[:, 1]


def test_sticks_are_the_eigenvalues_and_their_multiplicities(axes):
    found = spectrum(PROBLEM)
    plot_spectrum(found, axes)
    # K=3, d=4, rank 2: 2·2 rotations out of the plane, and one in it.
    np.testing.assert_array_equal(drawn(axes, "zero by symmetry"), [[0.0, 5.0]])
    positive = drawn(axes, "positive")
    np.testing.assert_array_equal(positive[:, 0], found.eigenvalues[1:])
    np.testing.assert_array_equal(positive[:, 1], found.multiplicities[1:])
    assert np.sum(positive[:, 1]) == PROBLEM.num_parameters - 5
    heads = np.concatenate([[[0.0, 5.0]], positive])
    np.testing.assert_array_equal(stems(axes), heads)
    assert len(drawn(axes, "negative")) == 0
    low, high = axes.get_xlim()
    assert low < 0 < positive[-1, 0] < high
    assert axes.get_ylim()[1] > np.max(heads[:, 1])


def test_negative_ones_stand_apart(axes):
    found = spectrum(PROBLEM, at="origin")
    plot_spectrum(found, axes)
    np.testing.assert_array_equal(drawn(axes, "negative"), [[found.eigenvalues[0], 8.0]])
    assert axes.get_xlim()[0] < found.eigenvalues[0]
    kinds = [handle.get_label() for handle in legend_handles([found])]
    assert kinds == ["negative", "positive", "linear scale"]


def test_zeros_that_rotations_do_not_explain_are_a_stick_of_their_own():
    found = dataclasses.replace(spectrum(PROBLEM), gauge_dimension=3)
    parts = sticks(found)
    assert parts["zero by symmetry"].heights.tolist() == [3]
    assert parts["other zeros"].heights.tolist() == [2]


def test_zeros_are_as_many_as_were_counted_where_not_all_are_listed():
    found = dataclasses.replace(spectrum(PROBLEM), complete=False, counted=(0, 7, 32))
    parts = sticks(found)
    assert parts["zero by symmetry"].heights.tolist() == [5]
    assert parts["other zeros"].heights.tolist() == [2]


def test_a_lone_eigenvalue_has_a_hill_as_high_as_its_stick_and_equal_ones_add_up():
    lone = Sticks(np.array([-2e-3]), np.array([7]))
    np.testing.assert_allclose(hill(np.array([-2e-3]), lone), [7.0])
    np.testing.assert_allclose(hill(np.array([-2e-3 * 10**0.06]), lone), [7 * np.exp(-0.5)])
    both = Sticks(np.array([1.0, 1.0 + 1e-12]), np.array([7, 4]))
    np.testing.assert_allclose(hill(np.array([1.0]), both), [11.0])


def test_lines_of_theory_are_eigenvalues_and_equal_ones_share_a_name():
    found = spectrum(PROBLEM)
    lines = dict(theory_lines(PROBLEM, found, escape=-0.5))
    assert lines["escape"] == -0.5
    assert lines[r"$\lambda_W$"] == pytest.approx(2e-2)
    assert lines[r"$\lambda_H$"] == pytest.approx(5e-3)
    assert lines[r"$\lambda_W{+}\lambda_H$"] == pytest.approx(2.5e-2)
    parts = ("deviations from class means: λ_H + s²χ₁",)
    at = found.parts.index(parts)
    assert lines[r"$\lambda_H{+}s^2\chi_1$"] == found.eigenvalues[at]
    # MSE has χ₁ = χ₂, and equal decays are one line.
    equal = make(MSE(), lam_b=0.0, ratio=1.0)
    names = [line.name for line in theory_lines(equal, spectrum(equal))]
    assert r"$\lambda_H=\lambda_W$" in names
    assert r"$\lambda_H{+}s^2\chi_{1,2}$" in names
    # λ_W is no eigenvalue at the origin of a problem whose bias decays.
    at_origin = theory_lines(PROBLEM, spectrum(make(MSE(), lam_b=1e-2), at="origin"))
    assert r"$\lambda_W$" not in [line.name for line in at_origin]


def test_names_of_close_lines_do_not_overlap(axes):
    problem = make(CrossEntropy(), lam_b=1e-2, ratio=1.01)
    plot_spectrum(spectrum(problem), axes, theory_lines(problem, spectrum(problem)))
    figure = axes.get_figure()
    figure.draw_without_rendering()
    # Without the leaders, which belong to the extent of an annotation.
    boxes = sorted(map(Text.get_window_extent, axes.texts), key=lambda box: box.x0)
    assert len(boxes) >= 4
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    assert all(box.y0 >= axes.get_window_extent().y1 for box in boxes)


def test_limits_hold_every_spectrum():
    first, second = spectrum(PROBLEM), spectrum(PROBLEM, at="origin")
    low, high, linear = common_limits([first, second])
    values = np.concatenate([first.eigenvalues[1:], second.eigenvalues])
    assert low < values.min() < 0 < values.max() < high
    assert 0 < linear <= np.abs(values).min()


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_files_of_spectra():
    imbalanced = make(MSE(), SKEWED, lam_b=1e-2)
    records = [record_at(PROBLEM, "origin"), SpectrumRecord(imbalanced, spectrum(imbalanced))]
    files = dict(spectrum_files(records))
    assert set(files) == names_of("spectrum")
    table = rows(files["spectrum.csv"])
    expected = np.concatenate([record.spectrum.eigenvalues for record in records])
    np.testing.assert_array_equal([float(row["eigenvalue"]) for row in table], expected)
    negative = sum(int(row["multiplicity"]) for row in table if row["sign"] == "negative")
    assert negative == records[0].spectrum.negative == 8


PATH = SpectrumPath(
    step=np.array([0, 3]),
    products=np.array([1, 9]),
    value=np.array([2.0, 1.0]),
    negative=np.array([5, 0]),
    zero=np.array([0, 4]),
    positive=np.array([7, 8]),
    rotations=np.array([3, 3]),
    smallest=np.array([-0.25, 0.0]),
    largest=np.array([3.0, 2.0]),
    error=np.array([1e-9, 1e-9]),
    zero_tol=1e-8,
    reliable=True,
)


def test_files_of_a_run_show_its_numbers():
    with style():
        figure, _ = path_page([("CE", PATH)])
    largest, smallest, index = figure.axes
    for ax, column in ((largest, PATH.largest), (smallest, PATH.smallest), (index, PATH.negative)):
        x, y = ax.lines[0].get_data()
        np.testing.assert_array_equal(x, PATH.step)
        np.testing.assert_array_equal(y, column)
    low, high = smallest.get_ylim()
    assert low < -0.25
    assert high > 0
    files = dict(spectrum_path_files([("CE", PATH)]))
    assert set(files) == names_of("spectrum-along")
    table = rows(files["spectrum-along.csv"])
    assert [float(row["smallest"]) for row in table] == [-0.25, 0.0]
    assert [int(row["negative"]) for row in table] == [5, 0]
