"""The theory's curve in phase diagrams, against closed forms, and where none may be drawn."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from phase_tables import DEFAULTS, NAN, table_of

from ufm.report import diagram, plot_phase
from ufm.report.phase.curve import known_threshold
from ufm.report.phase.plane import plane, slices


def test_the_threshold_is_marked_where_alpha_alone_varies():
    mu = math.sqrt(0.05 * 0.08)
    table = table_of(family="ls", alpha=[0.0, 0.25, 0.5, 0.75], lam_w=0.05, lam_h=0.08)
    found = diagram(table, "gap")
    np.testing.assert_allclose(found.curve, [[1 - mu * 4 * math.sqrt(5), 0]], rtol=1e-9)
    axes = plot_phase(found, Figure().subplots())
    np.testing.assert_allclose(axes.lines[-1].get_xdata(), found.curve[0, 0])


def test_the_threshold_is_marked_where_gamma_alone_varies():
    """Continuous at K=4: where ψ'(log K)/(K√n) = μ, ψ'(ℓ) = (1−p)^γ + γ ℓ p (1−p)^(γ−1)."""
    table = table_of(family="fl", gamma=[0.0, 2.0, 4.0, 6.0], lam_w=0.08, lam_h=0.08)
    ((gamma, _),) = diagram(table, "gap").curve
    p, log_k = 0.25, math.log(4)
    slope = (1 - p) ** gamma + gamma * log_k * p * (1 - p) ** (gamma - 1)
    np.testing.assert_allclose(slope / (4 * math.sqrt(5)), 0.08, rtol=1e-9)


def test_between_whole_numbers_the_threshold_is_at_the_edge():
    table = table_of(per_class=[1, 2, 5, 7])  # 1/(4√n) = 0.25, 0.177, 0.112, 0.094
    table["lam_w"][:] = table["lam_h"][:] = 0.1
    assert diagram(table, "gap").curve.tolist() == [[6.0, 0.0]]
    steps = diagram(table_of(lam_w=[0.01, 1.0], num_classes=[2, 3], tied=True), "gap").curve
    np.testing.assert_allclose(steps[:, 0] * [2, 2, 3, 3], 1 / math.sqrt(5))
    assert steps[:, 1].tolist() == [1.5, 2.5, 2.5, 3.5]


def test_a_constant_ratio_of_the_decays_moves_the_threshold():
    table = table_of(zipped=True, lam_w=[0.01, 0.1, 1.0], lam_h=[0.04, 0.4, 4.0])
    ((x, _),) = diagram(table, "gap").curve
    np.testing.assert_allclose(math.sqrt(x * 4 * x), 1 / (4 * math.sqrt(5)), rtol=1e-12)


def test_a_decay_of_zero_is_beyond_the_curve():
    table = table_of(lam_w=[0.0, 0.01, 0.1, 1.0], lam_h=[0.0, 0.01, 0.1, 1.0])
    found = diagram(table, "gap")
    assert found.plane.x.named == ((0.001, "0"),)
    assert len(found.value) == 16
    assert (found.curve >= 10**-2.5 * (1 - 1e-12)).all()
    np.testing.assert_allclose(found.curve.prod(axis=1), 1 / 80, rtol=1e-12)


def test_a_hidden_field_that_moves_the_threshold_leaves_no_curve():
    table = table_of(lam_w=[0.01, 1.0], lam_h=[0.01, 1.0], per_class=[2, 5])
    assert plane(table).curve.size == 0
    (first, second) = (plane(part.table).curve for part in slices(table).parts)
    np.testing.assert_allclose(first.prod(axis=1) / second.prod(axis=1), 5 / 2)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("lam_b", [NAN, 0.0, 0.3])
def test_the_threshold_of_convex_losses_is_the_gradient_at_the_origin(dim, lam_b):
    """In every dimension: the origin is the minimum iff ‖∇g(0)‖₂ ≤ μ, here by NumPy's SVD."""
    K, n, kappa, target = 4, 5, 3.0, 2.0
    Y = np.kron(np.eye(K), np.ones((1, n)))
    ce = (1 / K - Y) / (K * n)
    b = 0.0 if lam_b != lam_b else kappa * target / (kappa + K - 1 + K * lam_b)
    mse = (kappa * (b - target) * Y + b * (1 - Y)) / (K * n)
    row = {**DEFAULTS, "dim": dim, "lam_b": lam_b}
    squared = row | {"family": "mse", "scale": kappa, "target": target}
    for found, gradient in ((known_threshold(row), ce), (known_threshold(squared), mse)):
        np.testing.assert_allclose(found, np.linalg.norm(gradient, 2), rtol=1e-12)


def test_where_the_focal_loss_jumps_the_threshold_needs_the_frame():
    """Below K−1 dimensions nothing says that the origin is left at the tie; no bias, or c ≤ 1."""
    row = {**DEFAULTS, "family": "fl", "gamma": 3.0, "lam_b": NAN}
    row["class_counts"] = " ".join(["1"] * 100)
    tie = known_threshold(row | {"dim": 99})
    np.testing.assert_allclose(tie, 0.01175, atol=5e-6)  # of THEORY's section 4
    assert math.isnan(known_threshold(row | {"dim": 98}))
    assert math.isnan(known_threshold(row | {"dim": 99, "lam_b": 0.01}))  # c = 99 μ > 1
    # Continuous at K=4: the origin is left by a direction of negative curvature, whatever d.
    few = row | {"class_counts": "5 5 5 5"}
    assert known_threshold(few | {"dim": 1}) == known_threshold(few | {"dim": 3})


def test_the_curve_stops_at_dimensions_in_which_it_is_not_proven():
    counts = " ".join(["1"] * 20)
    table = table_of(
        family="fl", gamma=3.0, lam_b=NAN, class_counts=counts, dim=[18, 19, 20],
        lam_w=[0.01, 0.1], tied=True,
    )  # fmt: skip
    found = diagram(table, "gap").curve
    assert found[:, 1].tolist() == [18.5, 19.5, 19.5, 20.5]
    assert not np.isnan(found).any()
