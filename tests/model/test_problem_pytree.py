"""A Problem as JAX sees it: differentiated, mapped, compiled once, rebuilt without validation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from points import aligned

from ufm import certify, nc_metrics, solve
from ufm._support.pytree import hyperparameter, require
from ufm.losses import MSE, ClassWeighted, CrossEntropy, CustomLoss, Focal, LabelSmoothing
from ufm.model.objective import objective
from ufm.model.problem import Params, Problem

COUNTS, DIM = (2, 2, 2), 4


def make(alpha=0.1, lam_w=0.3, lam_h=0.2, lam_b=0.1) -> Problem:
    return Problem(LabelSmoothing(alpha), COUNTS, DIM, lam_w, lam_h, lam_b)


def point() -> Params:
    rng = np.random.default_rng(0)
    return Params(*(jnp.asarray(rng.normal(size=s)) for s in ((3, DIM), (DIM, 6), (3,))))


value = jax.jit(objective)


def test_the_gradient_with_respect_to_a_problem_is_a_problem():
    params = point()
    slope = jax.jit(jax.grad(objective))(make(), params)
    for lam, array in (("lam_w", params.W), ("lam_h", params.H), ("lam_b", params.b)):
        assert float(getattr(slope, lam)) == pytest.approx(0.5 * np.sum(np.asarray(array) ** 2))
    # f is affine in α.
    chord = (value(make(alpha=0.9), params) - value(make(alpha=0.1), params)) / 0.8
    assert float(slope.loss.alpha) == pytest.approx(float(chord), rel=1e-12, abs=0)


def test_a_batch_of_problems_can_be_mapped_over():
    decays, params = [0.1, 0.2, 0.7], point()
    single = [float(value(make(alpha=x, lam_w=x), params)) for x in decays]
    stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *map(make, decays))
    assert stacked.loss.alpha.shape == stacked.lam_b.shape == (3,)
    batch = make(alpha=jnp.array(decays), lam_w=np.array(decays))
    axes = jax.tree.map(lambda x: 0 if np.ndim(x) else None, batch)
    mapped = jax.vmap(objective, in_axes=(axes, None))(batch, params)
    np.testing.assert_allclose(mapped, single, rtol=1e-14)
    by_stack = jax.vmap(objective, in_axes=(0, None))(stacked, params)
    alone = [float(value(make(x), params)) for x in decays]
    np.testing.assert_allclose(by_stack, alone, rtol=1e-14)


def test_hyperparameters_do_not_retrace():
    traces = []

    @jax.jit
    def compiled(problem, params):
        traces.append(problem)
        return objective(problem, params)

    for changed in ({}, {"lam_w": 0}, {"lam_w": 0.5}, {"lam_b": 0}, {"alpha": 0}, {"alpha": 0.5}):
        compiled(make(**changed), point())
    compiled(make(lam_h=np.float32(0.5)), point())
    compiled(make(lam_h=np.array(1)), point())
    assert len(traces) == 1
    compiled(make(lam_b=None), Params(point().W, point().H, None))
    assert len(traces) == 2  # no bias is another program


def test_shapes_can_be_evaluated_without_numbers():
    shape = jax.eval_shape(objective, make(), point())
    assert (shape.shape, shape.dtype) == ((), jnp.float64)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), point())
    assert jax.eval_shape(objective, make(), single).dtype == jnp.float32


def test_unflattening_does_not_validate():
    problem = make()
    leaves, structure = jax.tree.flatten(problem)
    assert sorted(leaves) == [0.1, 0.1, 0.2, 0.3]
    again = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(again) == structure
    assert (again.class_counts, again.dim, again.lam_w) == (COUNTS, DIM, 0.3)
    nonsense = jax.tree.unflatten(structure, [object(), None, -1.0, "x"])
    assert nonsense.class_counts == COUNTS
    negative = jax.tree.map(lambda x: -x, problem)
    assert (negative.lam_w, negative.loss.alpha) == (-0.3, -0.1)


def test_what_is_static_distinguishes_structures():
    same = jax.tree.structure(make())
    assert jax.tree.structure(make(alpha=0.7, lam_w=0)) == same
    others = [
        Problem(CrossEntropy(), COUNTS, DIM, 0.3, 0.2, 0.1),
        Problem(LabelSmoothing(0.1), (3, 2, 1), DIM, 0.3, 0.2, 0.1),
        Problem(LabelSmoothing(0.1), COUNTS, DIM + 1, 0.3, 0.2, 0.1),
        make(lam_b=None),
    ]
    assert all(jax.tree.structure(other) != same for other in others)


def test_leaves_have_named_paths():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(make())]
    assert paths == [".loss.alpha", ".lam_w", ".lam_h", ".lam_b"]


# Construction -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"loss": CrossEntropy}, "loss"),
        ({"loss": "ce"}, "loss"),
        *(({"class_counts": x}, "class_counts") for x in ((2, 0), (2, -1), (2, 1.5), (4,), (), 3)),
        *(({"dim": x}, "dim") for x in (0, -1, 2.5, "4", None, True)),
        *(({"lam_w": x}, "lam_w") for x in (-1e-9, float("nan"), float("inf"), "0.1", None)),
        *(({"lam_h": x}, "lam_h") for x in (-1.0, np.array([0.1, -0.1]), True)),
        *(({"lam_b": x}, "lam_b") for x in (-1.0, float("nan"), "none")),
        *(
            ({"column_weights": jnp.asarray(x)}, "column_weights")
            for x in ([1.0] * 5, [1.0] * 5 + [0.0], [1.0] * 5 + [np.nan], [-1.0] * 6)
        ),
        ({"column_weights": "abc"}, "column_weights"),
    ],
    ids=str,
)
def test_a_bad_problem_is_refused_by_the_name_of_the_field(changed, field):
    good = {"loss": MSE(), "class_counts": COUNTS, "dim": DIM}
    good |= {"lam_w": 0.1, "lam_h": 0.1, "lam_b": 0.1}
    Problem(**good)
    with pytest.raises((TypeError, ValueError), match=field):
        Problem(**(good | changed))


@pytest.mark.parametrize("bad", ["0.1", b"1", None, True, [1, 2], 1j, np.array(["a", "b"])])
def test_what_is_no_number_is_refused_with_its_value(bad):
    with pytest.raises(TypeError, match="lam_w must be a number, got "):
        hyperparameter("lam_w", bad)


def test_numbers_of_every_kind_become_floats_and_arrays_stay_arrays():
    for number in (0, 2, np.float32(0.5), np.int64(3), np.array(1.5)):
        assert type(hyperparameter("x", number)) is float
        assert hyperparameter("x", number) == number
    assert hyperparameter("x", np.array([1, 2])).dtype == jnp.float64
    batch = jnp.array([1.0, 2.0])
    assert hyperparameter("x", batch) is batch


def test_a_problem_does_not_change_with_the_arrays_it_was_made_from():
    decays, weights, targets = aligned(np.full(8, 0.1)), aligned(np.ones(4)), aligned(np.eye(4) / 2)
    kinds = {"dim": 5, "lam_w": decays, "lam_h": decays, "lam_b": decays}
    weighted = Problem(ClassWeighted(CrossEntropy(), weights), (2,) * 4, **kinds)
    regression = Problem(MSE(), (2,) * 4, **kinds, targets=targets)
    custom = CustomLoss(lambda z, k, a: a[k] * z[k], params={"a": weights})
    before = copied([weighted, regression, custom])
    decays[:], weights[:], targets[:] = 1.0, 2.0, 3.0
    jax.tree.map(np.testing.assert_array_equal, copied([weighted, regression, custom]), before)


def copied(tree):
    return jax.tree.map(np.array, tree)


def test_requirements_see_through_arrays_but_not_through_tracers():
    with pytest.raises(ValueError, match=r"x must be positive, got -1\.0"):
        require("x", -1.0, lambda x: x > 0, "positive")
    with pytest.raises(ValueError, match="x must be positive"):
        require("x", jnp.array([1.0, -1.0]), lambda x: x > 0, "positive")
    jax.jit(lambda x: require("x", x, lambda x: x > 0, "positive"))(-1.0)


def test_a_problem_takes_lists_numpy_numbers_and_integers():
    plain = Problem(Focal(2.0), (2, 2), 3, 1.0, 0.0, None, jnp.ones(4))
    loose = Problem(Focal(2), [2, np.int64(2)], np.int64(3), 1, 0, None, [1, 1, 1, 1])
    assert jax.tree.structure(plain) == jax.tree.structure(loose)
    jax.tree.map(np.testing.assert_array_equal, plain, loose)


def test_balanced_problems_say_what_they_are():
    problem = Problem.balanced(
        loss=MSE(), num_classes=3, per_class=2, dim=DIM, lam_w=0.5, lam_h=2.0, lam_b=0.0
    )
    assert (problem.class_counts, problem.per_class, problem.num_classes) == (COUNTS, 2, 3)
    assert (problem.num_columns, problem.has_bias) == (6, True)
    assert problem.num_parameters == 3 * DIM + DIM * 6 + 3
    assert make(lam_b=None).num_parameters == 3 * DIM + DIM * 6
    assert list(problem.labels) == [0, 0, 1, 1, 2, 2]
    assert float(problem.mu()) == pytest.approx(1.0, rel=1e-15, abs=0)
    weighted = Problem(MSE(), COUNTS, DIM, 0.5, 2.0, None, jnp.ones(6))
    assert weighted.per_class is None
    assert Problem(MSE(), (3, 2, 1), DIM, 0.5, 2.0, None).per_class is None
    for field in ("num_classes", "per_class"):
        sizes = {"num_classes": 3, "per_class": 2} | {field: 0}
        with pytest.raises(ValueError, match=field):
            Problem.balanced(loss=MSE(), dim=DIM, lam_w=0.5, lam_h=2.0, lam_b=0.0, **sizes)


def test_the_geometric_mean_of_tiny_decays_does_not_underflow():
    problem = Problem(MSE(), COUNTS, DIM, 1e-25, 4e-25, None)
    assert float(problem.mu(jnp.float32)) == pytest.approx(2e-25, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("sizes", "field"), [((3, 7, 6), "W"), ((4, DIM, 6), "W"), ((3, DIM, 7), "H")]
)
def test_a_point_of_another_problem_is_refused_by_the_name_of_the_array(sizes, field):
    classes, dim, columns = sizes
    other = Params(jnp.zeros((classes, dim)), jnp.zeros((dim, columns)), jnp.zeros(classes))
    with pytest.raises(ValueError, match=f"params.{field} must have shape"):
        objective(make(), other)


def test_a_bias_that_the_problem_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"params\.b is given"):
        objective(make(lam_b=None), point())
    with pytest.raises(ValueError, match=r"params\.b must have shape"):
        objective(make(), Params(point().W, point().H, None))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int32", "complex64", "mixed"])
def test_arrays_of_other_types_than_one_precision_are_refused(kind):
    # By way of the tree, since the tests' own type check would stop the constructor first.
    other = point()
    if kind == "mixed":
        other = Params(other.W.astype("float32"), other.H, other.b)
        kind = "float32 and float64"
    else:
        other = jax.tree.map(lambda x: x.astype(kind), other)
    for call in (objective, certify, solve, nc_metrics):
        with pytest.raises(TypeError, match=f"all float32 or all float64, got {kind}: use"):
            call(make(), other)


def test_weights_whose_sum_is_not_a_number_are_refused():
    for weights in ([1e308] * 6, [1e308, 1.0, 1.0, 1.0, 1.0, 1.0], [-1.0] * 6, [np.nan] * 6):
        with pytest.raises(ValueError, match="column_weights must be positive, with a sum"):
            Problem(MSE(), COUNTS, DIM, 0.5, 2.0, None, weights)
