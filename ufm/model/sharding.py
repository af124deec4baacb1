"""Spread one large problem over many devices: split samples, copy W and b to every device.

H (d×N) is split along its samples; W and b are on every device. Solvers, `objective`, `certify` and
`nc_metrics` accept such a point: the compiler (GSPMD) sums over devices where the formulas sum over
samples. Results equal those of one device up to the order of sums.

    >>> start = init_sharded(problem, key, sample_mesh())
    >>> tuple(start.H.sharding.spec)
    (None, 'samples')
    >>> tuple(shard_samples(problem, params, sample_mesh()).H.sharding.spec)
    (None, 'samples')

To use several processes, call `jax.distributed.initialize` first, and run the same program in each.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from ufm.losses import Hyper
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.model.variant import by_variant

_AXIS = "samples"


def sample_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make a mesh of one axis, over which samples are spread.

    Args:
        devices: The devices; None means all, including those of other processes.

    Returns:
        The mesh, for `init_sharded` and `shard_samples`.
    """
    chosen = jax.devices() if devices is None else list(devices)
    # Explicit axes, the default of `jax.make_mesh`, would require a sharding for every operation.
    return Mesh(np.array(chosen), (_AXIS,), axis_types=(AxisType.Auto,))


def shardings(problem: Problem, mesh: Mesh) -> Params:
    """The shardings of W, H and b, as a `Params`.

    Raises `ValueError` if the number of samples is not divisible by the number of devices.
    """
    count = mesh.size
    if problem.num_columns % count:
        raise ValueError(
            f"{problem.num_columns} samples cannot be split evenly over {count} devices: choose "
            "other class counts, or fewer devices with sample_mesh(devices)"
        )
    everywhere: Any = NamedSharding(mesh, PartitionSpec())
    spread: Any = NamedSharding(mesh, PartitionSpec(None, _AXIS))
    shapes = jax.eval_shape(lambda: init_params(problem, jax.random.key(0)))
    places = [everywhere, spread, everywhere][: 2 + problem.has_bias]
    return jax.tree.unflatten(jax.tree.structure(shapes), places)


@by_variant
def shard_samples(problem: Problem, params: Params, mesh: Mesh) -> Params:
    """Spread the samples of a point over a mesh.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        mesh: From `sample_mesh`.

    Returns:
        The point, with H spread over its columns and W, b on every device.

    Raises:
        ValueError: The samples cannot be spread evenly over the mesh.
    """
    return jax.tree.map(jax.device_put, params, shardings(problem, mesh))


@by_variant
def init_sharded(
    problem: Problem, key: Key[Array, ""], mesh: Mesh, scale: Hyper = 0.1, dtype: Any = None
) -> Params:
    """Draw the start of `init_params` in shards, so that no device holds all of H.

    Args:
        problem: The problem.
        key: Random key.
        mesh: From `sample_mesh`.
        scale: Standard deviation of every entry.
        dtype: float32 or float64; None is JAX's default.

    Returns:
        The point of `init_params`, equal to rounding, with its samples spread over the mesh.

    Raises:
        ValueError: The samples cannot be spread evenly over the mesh.
    """
    kind = dtype or jnp.result_type(float)
    draw = jax.jit(
        lambda k: init_params(problem, k, scale, dtype=kind),
        out_shardings=shardings(problem, mesh),
    )
    return draw(key)
