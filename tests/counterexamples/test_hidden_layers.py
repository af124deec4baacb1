"""The hunt with hidden layers: where a point of lower rank is best, ETF and origin are spurious."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm.counterexamples.search_space import SearchSpace

CE = ufm.CrossEntropy()
#: e = 0.18 between the ties 0.1734838832 (ETF) and 0.1941863740 (origin) of K = 3, three factors.
AT = 0.18 / 0.1941863740
SPACE = SearchSpace(
    (CE, CE), (3,), per_class=(2, 2), decay=(AT, AT), ratio=(3.0, 3.0), hidden_layers=(1,)
)


@pytest.fixture(scope="module")
def found():
    return ufm.hunt(SPACE, jax.random.key(0), tries=1)


def test_the_etf_and_the_origin_are_spurious(found):
    values = {each.kind: each.value for each in found.found}
    assert values == pytest.approx({"origin": np.log(3), "simplex ETF": 1.0764590725}, abs=5e-10)
    # The tie above has ten digits.
    for each in found.found:
        assert each.lower_value == pytest.approx(1.0665225579, abs=5e-10)  # a pair, a dead class
        assert each.rate == pytest.approx(0.18, rel=1e-9)
        assert each.problem.lam_w == pytest.approx(3 * each.problem.lam_h)
        assert "CE, 3 factors, K=3, n=2, Λn^(1/M)=0.18" in each.explain()
    assert found.undecided == 0


def test_counts_are_those_of_the_hessian_over_all_samples(found):
    for each in found.found:
        problem, point = each.problem, each.params
        F, L = point.hidden[0], problem.lam_hidden[0]
        target = jax.nn.one_hot(jnp.repeat(jnp.arange(3), 2), 3, axis=0)

        def f(params, problem=problem, L=L, target=target):
            Z = params.W @ params.hidden[0] @ params.H
            sizes = [jnp.sum(x**2) for x in (params.W, params.hidden[0], params.H)]
            decays = problem.lam_w, L, problem.lam_h
            loss = jnp.mean(jax.nn.logsumexp(Z, axis=0) - jnp.sum(Z * target, axis=0))
            return loss + 0.5 * sum(d * s for d, s in zip(decays, sizes, strict=True))

        assert F.shape == (2, 2)
        flat, back = jax.flatten_util.ravel_pytree(point)

        def both(x, b=back, f=f):
            return f(b(x)), jax.hessian(lambda y: f(b(y)))(x)

        value, hessian = jax.jit(both)(flat)
        assert float(value) == pytest.approx(each.value, rel=1e-12)
        values = np.linalg.eigvalsh(hessian)
        assert np.sum(values < -1e-7) == each.index == 0
        assert np.sum(np.abs(values) < 1e-7) == each.zeros == each.gauge_dimension
        assert np.min(values[values > 1e-7]) == pytest.approx(each.smallest, rel=1e-6)


def test_two_factors_draw_as_before_and_layers_are_chosen():
    plain = SearchSpace((CE, CE), (3,), hidden_layers=(0,))
    mixed = SearchSpace((CE, CE), (3,), hidden_layers=(0, 1, 2))
    drawn = [mixed.draw(jax.random.key(i)) for i in range(12)]
    assert {len(each.lam_hidden) for each in drawn} == {0, 1, 2}
    for i, each in enumerate(drawn):
        other = plain.draw(jax.random.key(i))
        assert (other.per_class, other.loss) == (each.per_class, each.loss)
        assert float(other.lam_w / other.lam_h) == pytest.approx(float(each.lam_w / each.lam_h))
    with pytest.raises(ValueError, match="hidden_layers must list numbers of at least 0"):
        SearchSpace((CE, CE), (3,), hidden_layers=(-1,))


def test_intervals_are_refused(found):
    with pytest.raises(ValueError, match="not with hidden layers"):
        ufm.spurious_interval(found.found[0])
