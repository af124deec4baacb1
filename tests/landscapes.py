"""A small census that several files of tests look at: made once in a process."""

import functools

import jax

import ufm
from ufm import explore  # at once: tests of the command put this census in its place
from ufm._support.quick_jit import counted_anew

#: The shapes of test_explore.py, so that the programs are compiled once; unequal decays.
SIZES = {"num_classes": 4, "per_class": 5, "dim": 6}
DECAYS = {"lam_w": 1e-2, "lam_h": 2.5e-3, "lam_b": 1e-2}
EFFORT = {"starts_per_rank": 2, "starts_per_partition": 1, "root_starts": 24, "flows": 0}


def problem() -> ufm.Problem:
    return ufm.Problem.balanced(loss=ufm.CrossEntropy(), **SIZES, **DECAYS)


@functools.cache
def small_census() -> ufm.Census:
    with counted_anew():  # as the command
        return explore(problem(), jax.random.key(0), **EFFORT)
