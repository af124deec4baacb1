"""Work in other threads has the precision of the thread that asks for it."""

import jax
import jax.numpy as jnp
import numpy as np

from ufm._support.threads import in_order
from ufm.last_layer.features import Features
from ufm.last_layer.streaming.passes import Samples, Total, summed


def test_work_in_other_threads_has_this_precision():
    def precision(i):
        return jnp.zeros(()).dtype

    with jax.enable_x64(False):
        assert set(in_order(precision, 3)) == {jnp.dtype("float32")}
    assert set(in_order(precision, 3)) == {jnp.dtype("float64")}


def test_a_pass_over_features_has_this_precision():
    samples = Samples(Features((np.zeros((8, 1)),), "rows"), np.zeros(8, int), None)

    def begin():
        return lambda start, rows, labels, weights: Total(
            (np.asarray(jnp.zeros(()).dtype == jnp.float32),), ()
        )

    with jax.enable_x64(False):
        assert summed(samples, 4, begin).sums == (True,)
