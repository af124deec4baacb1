r"""Random starts of a deep linear model.

The origin is a strict local minimum for M ≥ 3 factors, and small starts end there. A start
therefore has balanced factors, which all contribute the same decay, and logits of a size that
`scale` sets: Gaussian entries of F_l with the standard deviation t/√(λ_l m_l), m_l the number of
entries, and t such that logits have the standard deviation 20 · scale, so 2 by default. Features
are class means plus deviations of the same size, because the run averages them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ufm._support.namespace import namespace
from ufm._support.pytree import hyperparameter, require, stacked, whole_number
from ufm._support.quick_jit import is_traced
from ufm._support.random_numbers import generator
from ufm.losses import Hyper
from ufm.model.params import Params
from ufm.model.problem import Problem, without_loss
from ufm.variants.deep.factors import decays_of, inner_widths, with_factors

#: Standard deviation of the logits in units of `scale`. Measured at K=4, n=3, Λ=0.05, M=3, 60 runs
#: each: none ends at the origin for scales from 0.003 to 0.3, and 10 do at 0.001.
LOGIT_SIZE = 20.0


def draw_start(
    problem: Problem,
    key: Key[Array, ""],
    scale: Hyper = 0.1,
    num_starts: int | None = None,
    dtype: Any = None,
) -> Params:
    """Draw a start, or a batch of them; raises as `ufm.init_params`."""
    if num_starts is not None:
        num_starts = whole_number("num_starts", num_starts)
    scale = hyperparameter("scale", scale)
    require("scale", scale, lambda x: x >= 0, "non-negative and finite")
    problem, dtype = without_loss(problem), dtype or jnp.result_type(float)
    count = (problem.num_parameters + problem.dim * problem.num_classes) * (num_starts or 1)
    random, words = generator(key, count)
    if is_traced((problem, scale)) or random is jax.random:
        return _program(problem, jnp.asarray(scale, dtype), key, num_starts=num_starts)
    draw = functools.partial(_draw, problem, np.asarray(scale, dtype), random)
    if num_starts is None:
        return draw(words)
    return stacked([draw(random.fold_in(words, i)) for i in range(num_starts)])


@functools.partial(jax.jit, static_argnames="num_starts")
def _program(problem: Problem, size: Array, key: Any, *, num_starts: int | None) -> Params:
    draw = functools.partial(_draw, problem, size, jax.random)
    if num_starts is None:
        return draw(key)
    return jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(jnp.arange(num_starts))


def _draw(problem: Problem, scale: Any, random: Any, key: Any) -> Params:
    dtype, xp = scale.dtype, namespace(scale)
    shapes = problem.shapes
    names = ["W", *(f"hidden[{i}]" for i in range(len(problem.lam_hidden))), "H"]
    key_b, key_m, *keys = random.split(key, len(names) + 2)
    raw = [random.normal(k, shapes[name], dtype) for k, name in zip(keys, names, strict=True)]
    means = random.normal(key_m, (problem.dim, problem.num_classes), dtype)
    raw[-1] = (means[:, problem.labels] + raw[-1]) * 0.5**0.5
    # In the columns of class means: K of them stand for all.
    entries = [x.size for x in raw[:-1]] + [means.size]
    weights = [xp.asarray(d, dtype) * m for d, m in zip(decays_of(problem), entries, strict=True)]
    samples = xp.ones(problem.num_columns, dtype)
    if problem.column_weights is not None:
        samples = xp.asarray(problem.column_weights, dtype)
    # λ_H Σ ‖h_i‖² grows with the number of samples.
    weights[-1] = weights[-1] * (xp.sum(samples) / problem.num_classes)
    paths = float(np.prod(inner_widths(problem)))
    roots = [xp.sqrt(x) for x in weights]
    size = functools.reduce(xp.multiply, roots) * (LOGIT_SIZE * scale / paths**0.5)
    t = size ** (1 / len(roots))
    factors = [t / root * x for root, x in zip(roots, raw, strict=True)]
    factors[-1] = factors[-1] * xp.sqrt(samples)[None, :]
    b = scale * random.normal(key_b, shapes["b"], dtype) if problem.has_bias else None
    return with_factors(tuple(factors), b)
