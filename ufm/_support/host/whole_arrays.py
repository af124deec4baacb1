"""Operations on arrays in their full shape, as calls of NumPy: sums, slices, products, …

Each is built from its equation in the jaxpr.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ufm._support.host.elementwise import Operation

_OF_TRUTH = (np.logical_and.reduce, np.logical_or.reduce)


def _reduction(operation: Callable[..., Any]) -> Callable[[Any], Operation | None]:
    def build(equation: Any) -> Operation | None:
        axes, dtype = tuple(equation.params["axes"]), equation.outvars[0].aval.dtype
        if operation in _OF_TRUTH and equation.invars[0].aval.dtype != bool:
            return None
        return lambda x: operation(x, axes, dtype)

    return build


def _index_of(operation: Callable[..., Any]) -> Callable[[Any], Operation]:
    def build(equation: Any) -> Operation:
        (axis,), dtype = equation.params["axes"], equation.params["index_dtype"]
        return lambda x: operation(x, axis=axis).astype(dtype)

    return build


def _iota(equation: Any) -> Operation:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    numbers = np.arange(shape[axis], dtype=equation.params["dtype"])
    numbers = numbers.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    found = np.broadcast_to(numbers, shape)
    return lambda: found


def _slice(equation: Any) -> Operation:
    p = equation.params
    steps = p["strides"] or (1,) * len(p["start_indices"])
    window = tuple(map(slice, p["start_indices"], p["limit_indices"], steps))
    return lambda x: x[window]


def _window(shape: Sequence[int], sizes: Sequence[int], starts: Sequence[Any]) -> tuple[slice, ...]:
    """Slice a window, whose start is clamped so that the window fits."""
    begins = [
        min(max(int(i), 0), n - size) for i, n, size in zip(starts, shape, sizes, strict=True)
    ]
    return tuple(slice(i, i + size) for i, size in zip(begins, sizes, strict=True))


def _dynamic_slice(equation: Any) -> Operation:
    sizes = equation.params["slice_sizes"]
    return lambda x, *starts: x[_window(x.shape, sizes, starts)]


def _dynamic_update_slice(_: Any) -> Operation:
    def run(x: Any, update: Any, *starts: Any) -> Any:
        found = np.array(x)
        found[_window(x.shape, update.shape, starts)] = update
        return found

    return run


def _gather(equation: Any) -> Operation | None:
    """Gather windows of one size, each from where its vector of indices says, clamped to fit."""
    p, like = equation.params, equation.invars[0].aval.shape
    axes, sizes = p["dimension_numbers"], p["slice_sizes"]
    if p["mode"].name not in ("CLIP", "PROMISE_IN_BOUNDS"):
        return None
    (*lead, _), rank = equation.invars[1].aval.shape, len(equation.outvars[0].aval.shape)
    dropped = (*axes.collapsed_slice_dims, *axes.operand_batching_dims)
    inner = [i for i in range(rank) if i not in axes.offset_dims]
    taken = axes.collapsed_slice_dims
    wanted = tuple(1 if i in taken else n for i, n in enumerate(like))
    along_one = len(taken) == 1 and sizes == wanted and axes.start_index_map == taken
    if along_one and not axes.operand_batching_dims:
        # Whole slices along one axis, as indexing with a vector takes them.
        (axis,), outer = taken, [taken[0] + i for i in range(len(inner))]

        def slices(x: Any, indices: Any) -> Any:
            found = np.take(x, indices[..., 0], axis, mode="clip")
            return found if inner == outer else np.moveaxis(found, outer, inner)

        return slices

    # For each axis of x, the places in its windows, behind the axes of `lead`.
    within = np.ogrid[tuple(map(slice, sizes))]
    behind, batches = tuple(len(lead) + i for i in dropped), np.ogrid[tuple(map(slice, lead))]
    moving = {axis: i for i, axis in enumerate(axes.start_index_map)}
    paired = dict(zip(axes.operand_batching_dims, axes.start_indices_batching_dims, strict=True))

    def run(x: Any, indices: Any) -> Any:
        places = list(within)
        for axis, (n, size) in enumerate(zip(like, sizes, strict=True)):
            begins = batches[paired[axis]] if axis in paired else np.zeros((), np.intp)
            if axis in moving:
                begins = np.clip(indices[..., moving[axis]], 0, n - size)
            places[axis] = begins[(..., *(None,) * len(sizes))] + within[axis]
        found = x[tuple(places)]
        found = np.broadcast_to(found, (*lead, *found.shape[len(lead) :])).squeeze(behind)
        return np.moveaxis(found, list(range(len(lead))), inner)

    return run


def _split(equation: Any) -> Operation:
    ends, axis = np.cumsum(equation.params["sizes"])[:-1], equation.params["axis"]
    return lambda x: np.split(x, ends, axis)


def _scatter(operation: Callable[..., None]) -> Callable[[Any], Operation | None]:
    """Scatter to single entries of a vector; drop indices outside it."""

    def build(equation: Any) -> Operation | None:
        axes = equation.params["dimension_numbers"]
        vector = len(equation.invars[0].aval.shape) == 1 and not axes.update_window_dims
        clips = equation.params["mode"].name == "CLIP"
        if not vector or clips or equation.invars[1].aval.shape[-1:] != (1,):
            return None

        def run(x: Any, indices: Any, updates: Any) -> Any:
            found, where = np.array(x), indices[..., 0]
            inside = (where >= 0) & (where < len(found))
            operation(found, where[inside], updates[inside])
            return found

        return run

    return build


def _product(equation: Any) -> Operation | None:
    if {x.aval.dtype for x in equation.invars} != {equation.outvars[0].aval.dtype}:
        return None
    ((left, right), (left_batch, right_batch)) = equation.params["dimension_numbers"]
    a, b = (x.aval for x in equation.invars)
    rows = [i for i in range(a.ndim) if i not in (*left, *left_batch)]
    columns = [i for i in range(b.ndim) if i not in (*right, *right_batch)]
    if (a.ndim, b.ndim, len(left), len(left_batch)) == (2, 2, 1, 0):
        if (left[0], right[0]) == (1, 0):
            return np.matmul
        return lambda x, y: np.matmul(x if left[0] == 1 else x.T, y if right[0] == 0 else y.T)
    order_a, order_b = (*left_batch, *rows, *left), (*right_batch, *right, *columns)
    batch = [a.shape[i] for i in left_batch]
    inner = int(np.prod([a.shape[i] for i in left], dtype=int))
    shape_a = (*batch, int(np.prod([a.shape[i] for i in rows], dtype=int)), inner)
    shape_b = (*batch, inner, int(np.prod([b.shape[i] for i in columns], dtype=int)))
    shape = equation.outvars[0].aval.shape

    def run(x: Any, y: Any) -> Any:
        x = x.transpose(order_a).reshape(shape_a)
        return np.matmul(x, y.transpose(order_b).reshape(shape_b)).reshape(shape)

    return run


def _factorisation(
    equation: Any, factors: Callable[[Any], Sequence[Any]]
) -> Callable[[Any], Sequence[Any]] | None:
    """Decompose one matrix; NaN if it is not finite or the iteration does not converge."""
    if len(equation.invars[0].aval.shape) != 2:
        return None
    like = [x.aval for x in equation.outvars]

    def run(x: Any) -> Sequence[Any]:
        if np.all(np.isfinite(x)):
            with contextlib.suppress(np.linalg.LinAlgError):
                return factors(x)
        return [np.full(y.shape, np.nan, y.dtype) for y in like]

    return run


def _eigh(equation: Any) -> Operation | None:
    triangle = "L" if equation.params["lower"] else "U"
    return _factorisation(equation, lambda x: np.linalg.eigh(x, triangle)[::-1])


def _svd(equation: Any) -> Operation | None:
    p = equation.params

    def factors(x: Any) -> Sequence[Any]:
        if not p["compute_uv"]:
            return [np.linalg.svd(x, compute_uv=False)]
        left, sizes, right = np.linalg.svd(x, full_matrices=p["full_matrices"])
        return sizes, left, right

    return None if p.get("subset_by_index") else _factorisation(equation, factors)


def _reshape(equation: Any) -> Operation:
    shape = equation.outvars[0].aval.shape
    return f"{{}}.reshape({shape})" + ("" if shape else "[()]")


def _transpose(equation: Any) -> Operation:
    return f"{{}}.transpose({tuple(equation.params['permutation'])})"


def _bitcast(equation: Any) -> Operation | None:
    dtype = np.dtype(equation.params["new_dtype"])
    if dtype.itemsize != equation.invars[0].aval.dtype.itemsize:
        return None
    return lambda x: np.asarray(x).view(dtype)


def _concatenate(equation: Any) -> Operation:
    axis = equation.params["dimension"]
    return lambda *arrays: np.concatenate(arrays, axis)


def _stack(equation: Any) -> Operation:
    axis = equation.params["axis"]
    return lambda *arrays: np.stack(arrays, axis)


def _put(x: Any, where: Any, updates: Any) -> None:
    x[where] = updates


#: Operations by name; None leaves an equation to JAX.
WHOLE: dict[str, Callable[[Any], Operation | None]] = {
    "argmax": _index_of(np.argmax),
    "argmin": _index_of(np.argmin),
    "bitcast_convert_type": _bitcast,
    "concatenate": _concatenate,
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "eigh": _eigh,
    "gather": _gather,
    "iota": _iota,
    "reduce_and": _reduction(np.logical_and.reduce),
    "reduce_max": _reduction(np.maximum.reduce),
    "reduce_min": _reduction(np.minimum.reduce),
    "reduce_or": _reduction(np.logical_or.reduce),
    "reduce_sum": _reduction(np.add.reduce),
    "reshape": _reshape,
    "scatter": _scatter(_put),
    "scatter-add": _scatter(np.add.at),
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "svd": _svd,
    "transpose": _transpose,
}
