"""`check_loss`: the table of the theory, brute force, and functions planted to mislead it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm.loss_check.contrastive import worst_violation
from ufm.loss_check.function import as_loss, sampled
from ufm.loss_check.profile import Profile
from ufm.losses import ClassWeighted

# Spec, minimisation property at K=10, p* (0: convex everywhere, None: no such region is known),
# threshold K√nμ, and p after the jump (None: no jump).
TABLE = [
    ("ce", True, 0.0, 1.0, None),
    ("temperature:0.5", True, 0.0, 2.0, None),
    ("ls:0.1", True, 0.0, 0.9, None),
    ("fl:1", True, 0.0432, 1.1303, None),
    ("fl:2", True, 0.0578, 1.2245, None),
    ("fl:3", True, 0.0575, 1.2885, None),
    ("poly:1", True, 0.0, 1.1, None),
    ("poly:2", False, 0.25, 1.2342, 0.334),
    ("gce:0.3", False, 0.3 / 1.3, 0.5370, 0.319),
    ("gce:0.7", False, 0.7 / 1.7, 0.3049, 0.614),
    ("sce:0.1,1,-4", False, 0.4875, 0.9471, 0.710),
    ("sce:6,0.1,-4", True, 0.0, 6.04, None),
    ("taylor:2", False, 1 - 3**-0.5, 0.3528, 0.633),
    ("mae", False, 0.5, 0.2193, 0.729),
    ("brier", False, None, 0.3147, 0.490),
    ("nl", False, None, 0.2348, 0.713),
    ("cce", True, None, 1.0, None),
    ("cot", True, None, 0.9756, None),
    ("cs:2", True, 0.0, 20 / 9, None),
    ("cs:1", False, 0.0, 10 / 9, 1 / (1 + 9 / np.e)),
    ("ww:2", True, 0.0, 20.0, None),
    ("ww:1", False, 0.0, 10.0, 1 / (1 + 9 / np.e)),
]


@pytest.mark.repeats
@pytest.mark.parametrize(("spec", "unique", "region", "threshold", "jump"), TABLE)
def test_the_table(spec, unique, region, threshold, jump):
    report = ufm.check_loss(spec, num_starts=0)
    assert report.equivariant.holds
    assert report.shift_invariant.holds
    assert report.contrastive.holds
    assert report.finite.holds
    assert report.minimisation.holds is unique
    assert report.convex.holds is (region == 0.0)
    if region:
        assert f"p_k ≥ {region:.4g}" in report.convex.how
    if report.convex.holds is False:
        z = np.array(report.convex.witness["z"])
        hessian = jax.hessian(lambda z: report.loss.value(z, 0))(jnp.asarray(z))
        assert np.linalg.eigvalsh(hessian)[0] < -1e-9
    assert report.threshold == pytest.approx(threshold, abs=6e-5)
    assert report.jumps is (jump is not None)
    # The plain hinges are straight from s = 0 to 1: every margin there is a minimiser at once.
    if jump is not None:
        assert report.jump_probability == pytest.approx(jump, abs=6e-4)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("spec", "threshold"), [("bitempered:0.8,1.2", 0.4265), ("bitempered:1,1.5", 0.3478)]
)
def test_tempered_losses(spec, threshold):
    report = ufm.check_loss(spec, num_starts=0)
    assert report.contrastive.holds
    assert report.minimisation.holds is False
    assert report.jumps
    assert report.threshold == pytest.approx(threshold, abs=6e-5)


PROFILES = {
    "fl:3": lambda p: (1 - p) ** 3 * -np.log(p),
    "gce:0.7": lambda p: (1 - p**0.7) / 0.7,
    "mae": lambda p: 1 - p,
    "taylor:2": lambda p: (1 - p) + (1 - p) ** 2 / 2,
}


@pytest.mark.repeats
@pytest.mark.parametrize("classes", [4, 20, 100])
@pytest.mark.parametrize("spec", PROFILES)
def test_thresholds_and_minima_by_brute_force(spec, classes):
    s = np.linspace(1e-3, 40.0, 400_001)
    p = 1 / (1 + (classes - 1) * np.exp(-s))
    value, zero = PROFILES[spec](p), PROFILES[spec](1 / classes)
    rates = (zero - value) / s
    report = ufm.check_loss(spec, classes, num_starts=0)
    unit = classes / (classes - 1)
    assert report.threshold == pytest.approx(
        unit * rates.max(), rel=1e-3 if not report.jumps else 1e-8
    )
    for prediction in report.predictions:
        c = prediction.decay / unit
        lowest = min(zero, float(np.min(value + c * s)))
        assert prediction.nc_value == pytest.approx(lowest, abs=1e-8)
        assert prediction.nc_lower_bound <= lowest + 1e-12
        assert prediction.nc_lower_bound >= lowest - 3e-6 * (1 + abs(lowest))


@pytest.mark.repeats
@pytest.mark.parametrize(("gamma", "first"), [(1.0, 24), (2.0, 18), (3.0, 18)])
def test_the_focal_loss_leaves_the_family_where_the_theory_says(gamma, first):
    for classes in (first - 1, first):
        report = ufm.check_loss(ufm.Focal(gamma), classes, num_starts=0)
        assert report.minimisation.holds is (classes < first)


def cross_entropy(z, k):
    return jax.nn.logsumexp(z) - z[k]


def poly_minus_two(z, k):
    log_p = jax.nn.log_softmax(z)[k]
    return -log_p - 2.0 * (1.0 - jnp.exp(log_p))


def second_rival(z, k):
    rivals = jnp.sort(jnp.where(jnp.arange(z.shape[0], dtype=jnp.int32) == k, -jnp.inf, z))
    return jnp.logaddexp(0.0, rivals[-2] - z[k])


def asymmetric_in_one_branch(z, k):
    return cross_entropy(z, k) + jnp.where(z[1] > 25.0, 0.1, 0.0)


def unbounded_in_one_direction(z, k):
    return jnp.mean(z) - z[k]


def dented(z, k):
    """Convex, but for a ball of radius 0.02 about one point."""
    far = jnp.sum((z - jnp.linspace(-1.0, 2.0, z.shape[0])) ** 2)
    return cross_entropy(z, k) + 0.01 * jnp.maximum(0.0, 4e-4 - far)


def nan_at_fifty(z, k):
    return jnp.log(jnp.sum(jnp.exp(16.0 * z))) / 16.0 - z[k]


def shifted(z, k):
    return cross_entropy(z, k) + 1e-3 * z[k] ** 2


def test_functions_are_never_proven_by_samples():
    report = ufm.check_loss(cross_entropy, 4, num_starts=0)
    assert all(answer.holds is None for answer in report.answers.values())
    assert report.threshold == pytest.approx(1.0)
    assert report.theorem.startswith("Undecided")


@functools.cache
def checked(function):
    return ufm.check_loss(function, 10, num_starts=0)


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (asymmetric_in_one_branch, "equivariant"),
        (unbounded_in_one_direction, "bounded_below"),
        (nan_at_fifty, "finite"),
        (shifted, "shift_invariant"),
        (poly_minus_two, "contrastive"),
        (second_rival, "contrastive"),
        (poly_minus_two, "convex"),
    ],
)
def test_planted_faults_are_found_with_a_witness(function, answer):
    found = getattr(checked(function), answer)
    assert found.holds is False
    assert found.witness is not None


def test_a_dent_that_samples_miss_stays_undecided():
    report = ufm.check_loss(dented, 10, num_starts=0)
    assert report.convex.holds is not True
    assert report.contrastive.holds is not True


def test_the_worst_violation_is_that_of_the_theory():
    loss = as_loss(poly_minus_two, 10)
    excess, z = worst_violation(loss, 10, 0)
    assert excess == pytest.approx(-0.307, abs=1e-3)
    mean_margin = np.mean(z[0] - z[1:])
    equal = np.r_[0.0, np.full(9, -mean_margin)]
    values, _ = sampled(loss, np.stack([z, equal]), 0)
    assert values[0] - values[1] == pytest.approx(excess)


@pytest.mark.parametrize("spec", ["mse", "bce"])
def test_losses_that_are_not_shift_invariant_are_left_to_duality(spec):
    report = ufm.check_loss(spec, num_starts=0)
    assert report.shift_invariant.holds is False
    witness = report.shift_invariant.witness
    z = np.array(witness["z"])
    assert float(report.loss.value(jnp.asarray(z + 1), 0)) == witness["value_of_z_plus_1"]
    assert report.contrastive.holds is None
    assert "duality" in report.theorem
    # Without bias, and for both losses, collapse ends at K√nμ = 1.
    assert report.threshold == pytest.approx(1.0)


def test_logit_norm_has_no_minimiser():
    report = ufm.check_loss(ufm.LogitNorm(0.5), 4, num_starts=0)
    infimum = np.log1p(3 * np.exp(-np.sqrt(4 / 3) / 0.5))
    assert report.threshold == np.inf
    assert report.theorem.startswith("No minimiser")
    assert f"{infimum:.8g}" in report.theorem
    assert report.contrastive.holds is False


def not_traceable(z, k):
    return float(z[k])


def a_vector(z, k):
    return z


def of_a_batch(z, k):
    return jnp.mean(jnp.take_along_axis(z, k[:, None], axis=1))


def of_integers(z, k):
    return jax.lax.population_count(z)[k].astype(float)


def not_finite_at_zero(z, k):
    return cross_entropy(z / jnp.linalg.norm(z), k)


@pytest.mark.parametrize(
    ("function", "error", "what"),
    [
        (not_traceable, TypeError, "cannot be traced by JAX"),
        (a_vector, TypeError, r"array of shape \(3,\)"),
        (of_a_batch, TypeError, "takes a batch of logits"),
        (of_integers, TypeError, "needs integer logits"),
        (not_finite_at_zero, ValueError, "not finite at equal logits"),
        ("hinge", ValueError, "unknown loss 'hinge'"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_line(function, error, what):
    with pytest.raises(error, match=what) as raised:
        ufm.check_loss(function, 3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"num_classes": 1}, "num_classes"),
        ({"lam_b": -1.0}, "lam_b"),
        ({"num_starts": -1}, "num_starts"),
        ({"decays": (0.0,)}, "decays"),
    ],
)
def test_numbers_out_of_range(given, what):
    with pytest.raises(ValueError, match=what):
        ufm.check_loss("ce", **given)


def test_prediction_and_outcome_side_by_side():
    report = ufm.check_loss("gce:0.7", 4, num_starts=4)
    for prediction, outcome in zip(report.predictions, report.outcomes, strict=True):
        assert outcome.best >= prediction.value - 1e-10
        assert len(outcome.values) == 4
    first = report.outcomes[0]
    assert first.kind == report.predictions[0].kind == "simplex ETF"
    assert first.best == pytest.approx(report.predictions[0].value, abs=1e-9)
    assert len(repr(report).splitlines()) <= 8
    assert "contrastive: yes: proof (ii)" in report.explain()


def test_branch_and_bound_is_a_bound_from_both_sides():
    profile = Profile.of(as_loss("mae", 10), 10)
    found = profile.bounded_minimum(0.1, accuracy=1e-8)
    s = np.linspace(0.0, 40.0, 2_000_001)
    lowest = np.min(1 - 1 / (1 + 9 * np.exp(-s)) + 0.1 * s)
    assert found.lower <= lowest <= found.upper + 1e-12
    assert found.upper - found.lower <= 3e-8


@pytest.mark.parametrize(
    ("spec", "said"), [("cot", "too, for the profile is convex"), ("fl:3", "where (K−1)√nμ ≤ 1,")]
)
def test_how_far_the_proof_reaches_with_a_bias(spec, said):
    report = ufm.check_loss(spec, num_starts=0)
    assert report.theorem.startswith("The loss belongs to the family")
    assert f"With a bias this is proven {said}" in report.theorem


def test_a_missing_minimiser_is_not_concluded_from_samples():
    def jumps_up(z, k):  # least at equal logits, where decay ends too: the origin is the minimum
        return jnp.where(jnp.ptp(z) > 0.0, 1.0, 0.0)

    def flattens(z, k):  # falls without end, but slower than any decay
        return -jnp.arcsinh(jnp.arcsinh(z[k] - jnp.mean(z)))

    def jumps_down(z, k):  # lower still at large margins, where a minimiser is
        return 3.0 - jnp.where(jnp.ptp(z) > 0.0, 0.5, 0.0) - jnp.tanh(z[k] - jnp.mean(z))

    for loss in (jumps_up, flattens, jumps_down):
        report = ufm.check_loss(loss, num_classes=4, num_starts=0)
        assert not report.theorem.startswith("No minimiser"), loss
    assert not ufm.check_loss(jumps_up, num_classes=4, num_starts=0).profile.discontinuous


def test_weights_and_scales_of_classes_are_no_renaming():
    weights = np.array([1.0, 2.0, 3.0])
    for loss in (ClassWeighted(ufm.CrossEntropy(), weights), ufm.VectorScaling(shift=weights)):
        report = ufm.check_loss(loss, num_classes=3, num_starts=0)
        witness = report.equivariant.witness
        assert report.equivariant.holds is False
        values = [
            float(loss.value(jnp.asarray(witness[z]), k))
            for z, k in (("z", 0), ("renamed", witness["label"]))
        ]
        assert values == [witness["value"], witness["value_renamed"]]
    scaled = ufm.VectorScaling(np.full(3, 2.0))  # equal scales change nothing with the shift
    report = ufm.check_loss(scaled, num_classes=3, num_starts=0)
    assert report.shift_invariant.holds is None
    with pytest.raises(ValueError, match="one for each of the 10 classes"):
        ufm.check_loss(scaled, num_classes=10, num_starts=0)
    soft = ufm.Problem(ufm.CrossEntropy(), (1,), 2, 0.1, 0.1, None, targets=[[0.5, 0.5]])
    with pytest.raises(ValueError, match="check the loss of class labels"):
        ufm.check_loss(soft.loss, num_classes=2, num_starts=0)


def test_runs_of_a_plain_hinge_come_near_its_minimum_and_are_not_called_converged():
    """φ(s) + c·s of the hinge (1 − s)₊ has its minimum at s = 1, a kink: Newton's method fails."""
    report = ufm.check_loss(ufm.parse_loss("ww:1"), 4, num_starts=4)
    prediction, outcome = report.predictions[0], report.outcomes[0]
    assert outcome.converged == 0
    assert "none of 4 runs converged" in report.runs
    # From above, as the prediction is the global minimum.
    assert -1e-12 < outcome.best - prediction.value < 1e-3 * prediction.value
