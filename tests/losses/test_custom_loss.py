"""What is declared of a custom loss is tested: it can be refuted, and is never proven by that."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser
from points import BALANCED, make
from points import softmax_entropy as entropy

from ufm import CrossEntropy, CustomLoss, Params, Reason, Verdict, certify
from ufm._support.quick_jit import quick_jit
from ufm.model.problem import Problem


def wave(z, label):
    return jnp.sin(3 * z[label]) + 1 + 0.05 * jnp.sum(z**2)


def shifted(z, label):
    return entropy(z, label) - 5


def roof(z, label):
    """Concave by a kink alone: its Hessian is 0."""
    return 1e3 - jnp.abs(z[label])


def hinge(z, label):
    """Convex, with kinks."""
    return jnp.sum(jnp.maximum(0.0, 1 + z - z[label])) - 1


def far_away(z, label):
    """Cross-entropy up to logits of 200, then x − sin x on top: concave in places."""
    beyond = jnp.maximum(z[label] - 200.0, 0.0)
    return entropy(z, label) + 0.5 * (beyond - jnp.sin(beyond))


def dips(z, label):
    return entropy(z, label) - jnp.maximum(z[label] - 200.0, 0.0)


@pytest.mark.parametrize(
    ("fn", "declared", "complaint"),
    [
        (wave, {"convex": True, "lower_bound": 0.0}, "wave is not convex.*Hessian"),
        (roof, {"convex": True}, "roof is not convex.*tangent"),
        (shifted, {"convex": True, "lower_bound": 0.0}, "below its declared lower_bound"),
        (shifted, {"lower_bound": 0.0}, "below its declared lower_bound"),
    ],
)
def test_what_random_logits_refute_makes_no_problem(fn, declared, complaint):
    with pytest.raises(ValueError, match=complaint):
        make(CustomLoss(fn, **declared))


def test_true_declarations_are_accepted_everywhere():
    rng = np.random.default_rng(0)
    for fn, bound in ((entropy, 0.0), (hinge, 0.0), (shifted, -5.0)):
        loss = CustomLoss(fn, convex=True, lower_bound=bound)
        loss.probe(2, 2)
        loss.probe(10, 10)
        z = jnp.asarray(10.0 ** rng.uniform(-8, 4, (500, 1)) * rng.standard_normal((500, 3)))
        found = quick_jit(jax.vmap(loss.refutation))(z, jnp.arange(500, dtype=jnp.int32) % 3)
        assert not np.any(found.refuted)
    make(CustomLoss(wave))  # nothing is declared


@pytest.mark.parametrize(
    ("declared", "error", "name"),
    [
        ({"convex": 1}, TypeError, "convex"),
        ({"convex": "yes"}, TypeError, "convex"),
        ({"lower_bound": float("nan")}, ValueError, "lower_bound"),
        ({"lower_bound": -float("inf")}, ValueError, "lower_bound"),
        ({"lower_bound": True}, TypeError, "lower_bound"),
        ({"lower_bound": "0"}, TypeError, "lower_bound"),
    ],
)
def test_declarations_of_the_wrong_kind(declared, error, name):
    # Not through the constructor's signature, whose types the tests check too.
    loss = object.__new__(CustomLoss)
    for field, value in {"fn": entropy, "params": {}, "convex": None, "lower_bound": None}.items():
        object.__setattr__(loss, field, declared.get(field, value))
    with pytest.raises(error, match=name):
        loss.__post_init__()


def test_a_loss_of_several_numbers_is_refused():
    with pytest.raises(TypeError, match="one number"):
        make(CustomLoss(lambda z, label: z, convex=True))


@pytest.mark.parametrize(
    ("fn", "complaint"), [(far_away, "not convex.*eigenvalue"), (dips, "below its declared")]
)
def test_what_the_samples_refute_is_undecided(fn, complaint):
    problem = make(CustomLoss(fn, convex=True, lower_bound=0.0), BALANCED)
    means = jnp.eye(4, 3)
    near = Params(15.0 * jnp.eye(3, 4), 10.0 * jnp.repeat(means, 2, axis=1), None)
    far = Params(15.0 * jnp.eye(3, 4), jnp.repeat(means, 2, axis=1).at[:, 3].mul(14.0), None)
    assert certify(problem, near).verdict is Verdict.NOT_CRITICAL
    found = certify(problem, far)
    assert (found.verdict, found.reason) == (Verdict.UNDECIDED, Reason.DECLARATION_REFUTED)
    column, witness = found.witness
    assert int(column) == 3  # the only sample with a logit above 200
    # z = (0, 210, 0), label 1, in closed form.
    value = {far_away: 0.5 * (10 - np.sin(10)), dips: -10.0}[fn]
    assert float(witness.value) == pytest.approx(value, rel=1e-12)
    least = {far_away: 0.5 * np.sin(10), dips: 0.0}[fn]
    assert float(witness.least_curvature) == pytest.approx(least, abs=1e-12)
    assert re.search(complaint, found.explain())


def test_problems_may_be_made_inside_transformations():
    def value(decay):
        loss = CustomLoss(entropy, convex=True, lower_bound=0.0)
        problem = Problem(
            loss=loss, class_counts=BALANCED, dim=4, lam_w=decay, lam_h=1e-2, lam_b=None
        )
        return problem.mu()

    assert float(jax.jit(value)(1e-2)) == pytest.approx(1e-2)


def test_a_loose_bound_buys_no_tolerance(full):
    """f = 1.3² f(minimum) or so is no minimum, however far below the loss a true bound lies."""
    problem = make(CrossEntropy(), BALANCED, None, 5e-3)
    off = jax.tree.map(lambda x: 1.3 * x, minimiser(problem))
    for bound in (0.0, -1e3, -1e9) if full else (0.0, -1e9):
        found = certify(make(CustomLoss(entropy, convex=True, lower_bound=bound), BALANCED), off)
        assert found.verdict is Verdict.NOT_CRITICAL
        assert float(found.tol) <= 1e-6 * np.log(3)


def test_declarations_are_tested_once_and_for_every_label():
    calls = []

    def one_odd_label(z, label):
        return jax.nn.logsumexp(z) - z[label] - jnp.where(label == 49, 1e3, 0.0)

    def counted(z, label):
        calls.append(1)
        return jax.nn.logsumexp(z) - z[label]

    options = {"class_counts": (1,) * 50, "dim": 2, "lam_h": 1e-2, "lam_b": None}
    with pytest.raises(ValueError, match="label 49"):
        Problem(loss=CustomLoss(one_odd_label, lower_bound=0.0), lam_w=1e-2, **options)
    loss = CustomLoss(counted, convex=True)
    problem = Problem(loss=loss, lam_w=1e-2, **options)
    calls.clear()
    dataclasses.replace(problem, lam_w=2e-2)
    assert not calls
