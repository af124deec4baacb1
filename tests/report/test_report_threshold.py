"""Through the collapse threshold: theory against formulas, runs as given, rounding at its floor."""

import numpy as np
import pytest
from figures import check_print
from matplotlib.figure import Figure

from ufm.losses import CrossEntropy, Focal
from ufm.model.problem_spec import ProblemSpec
from ufm.report import style
from ufm.report.sweep.threshold import crossings, plot_height, plot_size, threshold_page

CLASSES, EACH = 4, 5
#: Of cross-entropy: 1/(K√n).
THRESHOLD = 1 / (CLASSES * np.sqrt(EACH))
DECAYS = np.array([0.5, 0.9, 1.1])


def made_up(loss=None, classes=CLASSES, each=EACH, threshold=THRESHOLD, **changes) -> dict:
    """A sweep's table: a run at each decay, its f above f* by 0.25, by rounding, by nothing."""
    rows = []
    for decay, above in zip(DECAYS, (0.25, 1e-15, 0.0), strict=True):
        mu = float(decay * threshold)
        spec = ProblemSpec(loss or CrossEntropy(), (each,) * classes, classes, mu, mu, None)
        found = {"threshold": threshold, "rho": 2.0 * decay, "minimum": 0.5, "value": 0.5 + above}
        found |= {"minimum_exact": 1, "rounding": 1e-12}
        found |= {"verdict": "NOT_CRITICAL" if above > 0.1 else "GLOBAL_MINIMUM"}
        rows.append(spec.row() | found)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} | changes


@pytest.fixture(scope="module")
def found():
    (found,) = crossings(made_up())
    return found


def test_theory_is_the_closed_form_of_cross_entropy(found):
    rate, others = found.dense * THRESHOLD * np.sqrt(EACH), CLASSES - 1
    below = found.dense < 1
    rho = np.where(below, np.log(np.maximum(1 - others * rate, 1e-300) / rate), 0.0)
    np.testing.assert_allclose(found.minimum, rho, atol=1e-7)
    star = np.log1p(others * np.exp(-rho)) + rate * others * rho
    np.testing.assert_allclose(found.beginning, np.log(CLASSES) - star, atol=1e-12)
    assert np.isnan(found.frame[~below]).all()  # no frame beyond a smooth transition


def test_the_focal_loss_jumps_between_two_points_that_compete(monkeypatch):
    """Against the lowest of 40,001 margins, in NumPy."""
    monkeypatch.setattr("ufm.report.sweep.threshold._DENSE", 5)
    monkeypatch.setattr("ufm.report.sweep.threshold._NEAR", np.array([1e-4, 1e-3]))
    classes, gamma = 100, 3.0
    margin = np.linspace(0.0, 20.0, 40_001)
    p = 1 / (1 + (classes - 1) * np.exp(-margin))
    phi = -((1 - p) ** gamma) * np.log(p)
    slopes = (phi[0] - phi[1:]) / margin[1:]
    slope = float(np.max(slopes))  # at which the origin ties with another margin
    threshold = slope / (classes - 1)
    (found,) = crossings(made_up(Focal(gamma), classes, 1, threshold))
    values = phi + found.dense[:, None] * slope * margin
    lowest = margin[np.argmin(values, axis=1)]
    away = np.abs(found.dense - 1) > 1e-6  # a grid of margins does not know the tie better
    np.testing.assert_allclose(found.minimum[away], lowest[away], atol=1e-3)
    jump = found.minimum[found.dense < 1][-1]
    assert jump == pytest.approx(margin[1 + np.argmax(slopes)], abs=1e-3)
    np.testing.assert_allclose(found.beginning[away], (phi[0] - values.min(1))[away], atol=1e-8)
    near = (found.dense > 1) & (found.dense < 1.002) & away
    away_from_origin = np.where(margin > jump / 2, values, np.inf).min(1)
    np.testing.assert_allclose(found.frame[near], (away_from_origin - phi[0])[near], atol=1e-7)
    drawn = plot_size(found, Figure().subplots()).lines
    assert drawn[0].get_xdata()[-1] < 1 < drawn[1].get_xdata()[0]  # no line across the jump


def test_runs_are_drawn_as_they_are_and_rounding_at_its_floor(found):
    size, height = Figure().subplots(1, 2)
    plot_size(found, size)
    plot_height(found, height, 1e-12)
    marks = {
        axes: np.concatenate(
            [np.c_[x.get_data()] for x in axes.lines if x.get_linestyle() == "None"]
        )
        for axes in (size, height)
    }
    order = np.argsort(marks[size][:, 0])
    np.testing.assert_allclose(marks[size][order], np.c_[DECAYS, 2 * DECAYS])
    order = np.argsort(marks[height][:, 0])
    np.testing.assert_allclose(marks[height][order], np.c_[DECAYS, [0.25, 1e-12, 1e-12]])
    hollow = [line for line in size.lines if line.get_markerfacecolor() == "none"]
    assert [len(line.get_xdata()) for line in hollow] == [1]
    assert hollow[0].get_xdata()[0] == pytest.approx(0.5)  # not proven


def test_the_page_is_fit_for_print_and_its_data_are_all_of_it(found):
    with style():
        for shown in ([found], [found, found]):
            figure, tables = threshold_page(shown)
            figure.draw_without_rendering()
            check_print(figure)
    assert [table["what"] for table in tables] == ["run", "theory"] * 2
    np.testing.assert_allclose(tables[0]["height"], [0.25, 1e-15, 0.0], atol=2e-16)


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": np.array([4, 5, 4])},  # another field varies
        {"threshold": np.full(3, np.nan)},  # none is known
        {"threshold": np.full(3, 1.0)},  # all below it
        {"mu": np.full(3, THRESHOLD)},  # one decay
    ],
)
def test_other_sweeps_have_no_such_figure(changes):
    assert crossings(made_up() | changes) == []
