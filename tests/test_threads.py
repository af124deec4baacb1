"""Work in other threads has the precision of the thread that asks; threads of BLAS."""

import contextvars
import os
import subprocess
import sys

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


def test_work_in_other_threads_has_this_context():
    number = contextvars.ContextVar("number", default=0)
    number.set(1)
    assert set(in_order(lambda i: number.get(), 3)) == {1}


def test_a_pass_over_features_has_this_precision():
    samples = Samples(Features((np.zeros((8, 1)),), "rows"), np.zeros(8, int), None)

    def begin():
        return lambda start, rows, labels, weights: Total(
            (np.asarray(jnp.zeros(()).dtype == jnp.float32),), ()
        )

    with jax.enable_x64(False):
        assert summed(samples, 4, begin).sums == (True,)


def test_a_library_that_comes_later_is_limited_to_one_thread_too():
    code = (
        "import numpy, threadpoolctl\n"
        "from ufm._support.threads import one_blas_thread\n"
        "def threads():\n"
        "    found = threadpoolctl.threadpool_info()\n"
        "    return [x['num_threads'] for x in found if x['user_api'] == 'blas']\n"
        "with one_blas_thread(): few = threads()\n"
        "import scipy.linalg\n"
        "with one_blas_thread(): more = threads()\n"
        "assert {*few, *more} == {1}, (few, more)\n"
    )
    mine = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], check=True, env=mine)
