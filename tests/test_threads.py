"""Threads of BLAS."""

import os
import subprocess
import sys


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
