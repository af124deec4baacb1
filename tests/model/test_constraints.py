"""Sets of the factors: what a problem refuses, the logits under a temperature, who answers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from points import aligned

import ufm
from ufm.model.objective import value_and_gradient
from ufm.model.problem_batch import problem_batch
from ufm.model.variant import Variant, by_variant

DECAYS = {"lam_w": 1e-2, "lam_h": 1e-2, "lam_b": None}


def problem(**changes):
    given = {"loss": ufm.CrossEntropy(), "class_counts": (3, 3, 3), "dim": 4, **DECAYS, **changes}
    return ufm.Problem(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": ufm.Sphere()}, "lam_w must be None with classifier=Sphere"),
        ({"features": ufm.Ball(2.0)}, "lam_h must be None with features=Ball"),
        ({"features": ufm.NonNegative(), "lam_h": None}, "lam_h must be a number, got None"),
        ({"lam_w": None}, "lam_w must be a number, got None"),
        ({"classifier": ufm.NonNegative()}, "NonNegative is for the features"),
        ({"features": ufm.Fixed(np.eye(3, 4)), "lam_h": None}, "Fixed is for the classifier"),
        ({"classifier": ufm.Fixed(np.eye(3)), "lam_w": None}, r"must have shape \(3, 4\)"),
        ({"features": ufm.Sphere(), "lam_h": None, "dim": 1}, "two points"),
        ({"temperature": 0.5}, "give lam_w·τ² instead"),
        (
            {"features": ufm.Sphere(), "lam_h": None, "temperature": 0.0},
            "temperature must be positive",
        ),
        ({"lam_hidden": (0.0,)}, "lam_hidden must be positive"),
        ({"lam_hidden": (0.1,), "hidden_dims": (2, 2)}, "one width for each of the 1 entries"),
        ({"lam_hidden": (0.1,), "hidden_dims": (0,)}, "hidden_dims must be a positive"),
        ({"lam_hidden": (0.1,), "features": ufm.NonNegative()}, "leave out the other sets"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        problem(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ufm.Sphere(0.0), "radius must be positive"),
        (lambda: ufm.Ball(-1.0), "radius must be positive"),
        (lambda: ufm.Budget(float("inf")), "mean_square must be positive"),
        (lambda: ufm.Fixed(np.zeros((3, 4))), "every feature has the same logits"),
        (lambda: ufm.Fixed(np.ones(3)), "shape"),
        (lambda: ufm.Fixed("etf"), "matrix of numbers"),
    ],
)
def test_invalid_sets_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_logits_under_a_temperature():
    found = problem(
        classifier=ufm.Sphere(), features=ufm.Sphere(), temperature=0.5, lam_w=None, lam_h=None
    )
    rng = np.random.default_rng(0)
    W, H = rng.standard_normal((3, 4)), rng.standard_normal((4, 9))
    params = ufm.Params(jnp.asarray(W), jnp.asarray(H), None)
    V = W @ H / 0.5
    expected = np.mean(np.log(np.exp(V).sum(axis=0)) - V[found.labels, np.arange(9)])
    value, gradient = value_and_gradient(found, params)
    np.testing.assert_allclose(float(value), expected, rtol=1e-14)
    probabilities = np.exp(V) / np.exp(V).sum(axis=0) - np.eye(3)[:, found.labels]
    np.testing.assert_allclose(gradient.W, probabilities @ H.T / (0.5 * 9), rtol=1e-12)


def test_every_exported_verb_asks_the_variant():
    composed = {"polish", "solve", "solve_many", "trajectory", "verify"}  # of what variants give
    for name in set(ufm.__all__) - composed:
        verb = getattr(ufm, name)
        if inspect.isclass(verb) or not callable(verb):
            continue
        if next(iter(inspect.signature(verb).parameters), None) == "problem":
            assert hasattr(verb, "verb_of_variants"), f"ufm.{name} has no @by_variant"


class _Halved(Variant):
    name = "halves"
    shares = frozenset({"whole"})

    def half(self, problem):
        return 0.5


def test_a_variant_answers_shares_or_refuses():
    def half(problem):
        return 1.0

    def whole(problem):
        return 1.0

    def third(problem):
        return 1.0

    class Plain:
        variant = None

    class Other:
        variant = _Halved()

    assert (by_variant(half)(Plain()), by_variant(half)(problem=Other())) == (1.0, 0.5)
    assert by_variant(whole)(Other()) == 1.0
    with pytest.raises(ValueError, match=r"ufm\.third does not support problems with halves"):
        by_variant(third)(Other())


def test_a_fixed_classifier_does_not_change_with_the_array_it_was_made_from():
    matrix = aligned(np.eye(3, 4))
    fixed = ufm.Fixed(matrix)
    matrix[0] = 5.0
    np.testing.assert_array_equal(fixed.matrix, np.eye(3, 4))


def test_sets_are_traced_and_batches_are_found():
    both = {"lam_w": None, "classifier": ufm.Sphere(np.array([1.0, 2.0]))}
    assert problem_batch(problem(**both)) == 2
    fixed = problem(lam_w=None, classifier=ufm.Fixed(np.eye(3, 4)))
    assert problem_batch(fixed) is None
    radius = jax.grad(
        lambda r: problem(lam_w=None, classifier=ufm.Sphere(r)).classifier.radius ** 2
    )
    assert float(radius(3.0)) == 6.0
