r"""Write the smallest file that shows a spurious minimum, for `ufm certify FILE.npz`.

The landscape of the class means depends on n only through μ√n: with n = 1 and

    λ' = λ√n,   W' = W n^{-1/4},   H' = Ĥ n^{-1/4},

Ĥ the class means times √n, logits and f are unchanged. A minimum over all features is a minimum
over the class means, so that one sample in each class suffices.

    save(found, "spurious.npz")
"""

import dataclasses
import os
from pathlib import Path

import jax.numpy as jnp

from ufm._support.atomic_files import write_whole
from ufm.counterexamples.found import SpuriousMinimum
from ufm.last_layer.stored_point import point_file
from ufm.model.params import Params
from ufm.model.problem import Problem


def one_per_class(minimum: SpuriousMinimum) -> tuple[Problem, Params]:
    """The same minimum with one sample per class, in K − 1 dimensions, or in K + 1 instead of K."""
    problem, means = minimum.problem, minimum.means
    classes = problem.num_classes
    root = (problem.num_columns / classes) ** 0.5
    # The layout of a square H in a file would be ambiguous.
    spare = 1 if problem.dim == classes else 0
    small = dataclasses.replace(
        problem,
        class_counts=(1,) * classes,
        dim=problem.dim + spare,
        lam_w=problem.lam_w * root,
        lam_h=problem.lam_h * root,
    )
    W = jnp.pad(means.W, ((0, 0), (0, spare))) / root**0.5
    H = jnp.pad(means.H, ((0, spare), (0, 0))) / root**0.5
    return small, Params(W, H, means.b)


def reproducing_file(minimum: SpuriousMinimum) -> bytes:
    """Make an .npz for `ufm certify`: W, H (d×K), labels, loss, decays, and b if there is one."""
    problem, point = one_per_class(minimum)
    return point_file(problem, point)


def save(minimum: SpuriousMinimum, path: str | os.PathLike[str]) -> None:
    """Write the file, whole or not at all."""
    write_whole(Path(path), reproducing_file(minimum))
