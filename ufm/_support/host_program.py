"""Programs of JAX run by NumPy, operation by operation: what runs once is not worth compiling.

JAX traces a function to a list of operations (a jaxpr); this module translates the list into calls
of NumPy. Tracing `ufm.solve` takes a twentieth of what compiling it does. Calls of other functions
are inlined and what nobody reads is dropped. A broadcast is left to the operation that follows, as
NumPy broadcasts by itself. An operation without an entry in the table is run by JAX.

Results agree with those of the compiled program to rounding: sums are added up in another order.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

Operation = Callable[..., Any]
#: Turns of loops that the run in this thread may still make.
_left = threading.local()


class TooLongError(Exception):
    """The loops of a run on the host have made more turns than they may."""


class _Step(NamedTuple):
    """outputs = run(*inputs), all by number of the slot that holds them."""

    run: Operation
    inputs: tuple[int, ...]
    #: A number where there is one output, which `run` then returns bare.
    outputs: int | tuple[int, ...]


class HostProgram:
    """A jaxpr as a list of steps."""

    def __init__(self, closed: ClosedJaxpr) -> None:
        #: What every slot holds before the first step: constants, and None.
        self._slots: list[Any] = []
        #: The shape that each slot's array has, which broadcasts to the one it stands for.
        self._shapes: list[tuple[int, ...]] = []
        self._steps: list[_Step] = []
        self._inputs = [self._new(x.aval.shape) for x in closed.jaxpr.invars]
        found = self._translate(closed, self._inputs)
        self._outputs = [
            self._full(slot, x.aval.shape)
            for slot, x in zip(found, closed.jaxpr.outvars, strict=True)
        ]
        self._drop_unread()

    def run(self, arguments: Sequence[Any], most_turns: int) -> list[Any]:
        """The outputs; raises `TooLongError` after so many turns of all loops together."""
        _left.turns = most_turns
        with np.errstate(all="ignore"):  # as on every backend: infinity and NaN are results
            return self(*arguments)

    def __call__(self, *arguments: Any) -> list[Any]:
        slots = self._slots.copy()
        for slot, argument in zip(self._inputs, arguments, strict=True):
            slots[slot] = argument
        for run, inputs, outputs in self._steps:
            found = run(*[slots[i] for i in inputs])
            if isinstance(outputs, int):
                slots[outputs] = found
            else:
                for slot, value in zip(outputs, found, strict=True):
                    slots[slot] = value
        return [slots[i] for i in self._outputs]

    def _new(self, shape: Sequence[int], value: Any = None) -> int:
        self._slots.append(value)
        self._shapes.append(tuple(shape))
        return len(self._slots) - 1

    def _translate(self, closed: ClosedJaxpr, inputs: Sequence[int]) -> list[int]:
        """Append the steps of a jaxpr whose inputs are in these slots; the slots of its outputs."""
        jaxpr = closed.jaxpr
        where: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.constvars, closed.consts, strict=True):
            where[variable] = self._new(np.shape(value), _on_host(value))

        def slot_of(x: Any) -> int:
            if not isinstance(x, Literal):
                return where[x]
            like: Any = x.aval
            return self._new((), np.asarray(x.val, like.dtype)[()])

        for equation in jaxpr.eqns:
            slots = [slot_of(x) for x in equation.invars]
            name, parameters = equation.primitive.name, equation.params
            inner = _called(name, parameters)
            if inner is not None:
                found = self._translate(inner, slots)
            elif name == "broadcast_in_dim" and len(slots) == 1:
                found = [self._broadcast(slots[0], equation)]
            elif name in _ELEMENTWISE:
                shape = np.broadcast_shapes(*(self._shapes[i] for i in slots))
                found = [self._new(shape)]
                self._steps.append(_Step(_ELEMENTWISE[name](parameters), tuple(slots), found[0]))
            else:
                full = [
                    self._full(i, x.aval.shape) for i, x in zip(slots, equation.invars, strict=True)
                ]
                found = [self._new(x.aval.shape) for x in equation.outvars]
                single = not equation.primitive.multiple_results
                run = _operation(equation)
                self._steps.append(_Step(run, tuple(full), found[0] if single else tuple(found)))
            where.update(zip(equation.outvars, found, strict=True))
        return [slot_of(x) for x in jaxpr.outvars]

    def _broadcast(self, slot: int, equation: Any) -> int:
        """Axes of length 1 where the array is the same along them; a number stays a number."""
        shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
        held, meant = self._shapes[slot], equation.invars[0].aval.shape
        if not held:
            return slot
        held = (1,) * (len(meant) - len(held)) + held
        new = [1] * len(shape)
        for axis, length in zip(axes, held, strict=True):
            new[axis] = length
        if tuple(new) == self._shapes[slot]:
            return slot
        found = self._new(new)
        self._steps.append(_Step(lambda x: x.reshape(new), (slot,), found))
        return found

    def _full(self, slot: int, shape: Sequence[int]) -> int:
        """The array in its own shape."""
        if self._shapes[slot] == tuple(shape):
            return slot
        found = self._new(shape)
        self._steps.append(_Step(lambda x: np.broadcast_to(x, shape), (slot,), found))
        return found

    def _drop_unread(self) -> None:
        read, kept = set(self._outputs), []
        for step in reversed(self._steps):
            outputs = (step.outputs,) if isinstance(step.outputs, int) else step.outputs
            if not read.isdisjoint(outputs):
                kept.append(step)
                read.update(step.inputs)
        self._steps = kept[::-1]


def _on_host(value: Any) -> Any:
    return np.asarray(value)[()]


_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat")


def _called(name: str, parameters: Any) -> ClosedJaxpr | None:
    """The jaxpr that an operation only calls."""
    if name not in _CALLS:
        return None
    for value in parameters.values():
        if isinstance(value, ClosedJaxpr):
            return value
        if isinstance(value, Jaxpr):
            return ClosedJaxpr(value, ())
    return None


def _operation(equation: Any) -> Operation:
    build = _WHOLE.get(equation.primitive.name)
    found = None if build is None else build(equation)
    return found or _by_jax(equation)


def _by_jax(equation: Any) -> Operation:
    primitive, parameters = equation.primitive, equation.params

    def run(*arguments: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            found = primitive.bind(*(jnp.asarray(x) for x in arguments), **parameters)
        if primitive.multiple_results:
            return [_on_host(x) for x in found]
        return _on_host(found)

    return run


def _power(x: Any, exponent: int) -> Any:
    if exponent == 2:
        return x * x
    return x**exponent if exponent > 0 else 1.0 / x**-exponent


def _logistic(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), small) / (1 + small)


def _quotient(x: Any, y: Any) -> Any:
    """Of whole numbers rounded towards zero."""
    found = x / y
    return found if found.dtype == x.dtype else np.trunc(found).astype(x.dtype)


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases)


def _convert(parameters: Any) -> Operation:
    dtype = np.dtype(parameters["new_dtype"])
    return lambda x: x if x.dtype == dtype else x.astype(dtype)


def _rounding(parameters: Any) -> Operation:
    if parameters["rounding_method"].name == "TO_NEAREST_EVEN":
        return np.rint
    return lambda x: np.trunc(x + np.copysign(x.dtype.type(0.5), x))


def _plain(operation: Operation) -> Callable[[Any], Operation]:
    return lambda _: operation


#: Operations of arrays that broadcast, as functions of the operation's parameters.
_ELEMENTWISE: dict[str, Callable[[Any], Operation]] = {
    name: _plain(operation)
    for name, operation in {
        "abs": np.abs,
        "add": np.add,
        "add_any": np.add,
        "and": np.bitwise_and,
        "ceil": np.ceil,
        "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
        "copy": lambda x: x,
        "copy_p": lambda x: x,
        "cos": np.cos,
        "div": _quotient,
        "eq": np.equal,
        "exp": np.exp,
        "exp2": np.exp2,
        "expm1": np.expm1,
        "floor": np.floor,
        "ge": np.greater_equal,
        "gt": np.greater,
        "is_finite": np.isfinite,
        "le": np.less_equal,
        "log": np.log,
        "log1p": np.log1p,
        "logistic": _logistic,
        "lt": np.less,
        "max": np.maximum,
        "min": np.minimum,
        "mul": np.multiply,
        "ne": np.not_equal,
        "neg": np.negative,
        "nextafter": np.nextafter,
        "not": np.invert,
        "or": np.bitwise_or,
        "pow": np.power,
        "rem": np.fmod,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "select_n": _select,
        "shift_right_arithmetic": np.right_shift,
        "sign": np.sign,
        "sin": np.sin,
        "sqrt": np.sqrt,
        "square": np.square,
        "stop_gradient": lambda x: x,
        "sub": np.subtract,
        "tan": np.tan,
        "tanh": np.tanh,
        "xor": np.bitwise_xor,
    }.items()
} | {
    "convert_element_type": _convert,
    "integer_pow": lambda p: functools.partial(_power, exponent=p["y"]),
    "round": _rounding,
}


def _reduction(operation: Operation) -> Callable[[Any], Operation]:
    def build(equation: Any) -> Operation:
        axes = tuple(equation.params["axes"])
        return lambda x: operation(x, axis=axes)

    return build


def _index_of(operation: Operation) -> Callable[[Any], Operation]:
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
    """A window that begins no later than where it still fits."""
    begins = [
        min(max(int(i), 0), n - size) for i, n, size in zip(starts, shape, sizes, strict=True)
    ]
    return tuple(slice(i, i + size) for i, size in zip(begins, sizes, strict=True))


def _dynamic_slice(equation: Any) -> Operation:
    sizes = equation.params["slice_sizes"]
    return lambda x, *starts: x[_window(x.shape, sizes, starts)]


def _dynamic_update_slice(_: Any) -> Operation:
    def run(x: Any, update: Any, *starts: Any) -> Any:
        found = x.copy()
        found[_window(x.shape, update.shape, starts)] = update
        return found

    return run


def _gather(equation: Any) -> Operation | None:
    """Slices along one axis, which is what indexing with a vector makes of it."""
    p, like = equation.params, equation.invars[0].aval.shape
    axes, taken = p["dimension_numbers"], p["dimension_numbers"].collapsed_slice_dims
    wanted = tuple(1 if i in taken else n for i, n in enumerate(like))
    plain = len(taken) == 1 and axes.start_index_map == taken and not axes.operand_batching_dims
    if not plain or p["slice_sizes"] != wanted or p["mode"].name == "FILL_OR_DROP":
        return None
    (axis,), rank = taken, len(equation.outvars[0].aval.shape)
    inner = [i for i in range(rank) if i not in axes.offset_dims]
    outer = [axis + i for i in range(len(inner))]

    def run(x: Any, indices: Any) -> Any:
        found = np.take(x, indices[..., 0], axis, mode="clip")
        return found if inner == outer else np.moveaxis(found, outer, inner)

    return run


def _split(equation: Any) -> Operation:
    ends, axis = np.cumsum(equation.params["sizes"])[:-1], equation.params["axis"]
    return lambda x: np.split(x, ends, axis)


def _scatter(operation: Callable[..., None]) -> Callable[[Any], Operation | None]:
    """Single entries of a vector, each index within it: what the library's programs do."""

    def build(equation: Any) -> Operation | None:
        axes = equation.params["dimension_numbers"]
        vector = len(equation.invars[0].aval.shape) == 1 and not axes.update_window_dims
        if not vector or equation.invars[1].aval.shape[-1:] != (1,):
            return None

        def run(x: Any, indices: Any, updates: Any) -> Any:
            found, where = np.array(x), indices[..., 0]
            inside = (where >= 0) & (where < len(found))
            operation(found, where[inside], updates[inside])
            return found

        return run

    return build


def _product(equation: Any) -> Operation:
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


def _eigh(equation: Any) -> Operation:
    triangle = "L" if equation.params["lower"] else "U"

    def run(x: Any) -> Any:
        if not np.all(np.isfinite(x)):
            return np.full(x.shape, np.nan), np.full(x.shape[:-1], np.nan)
        values, vectors = np.linalg.eigh(x, triangle)
        return vectors, values

    return run


def _svd(equation: Any) -> Operation | None:
    p = equation.params

    def run(x: Any) -> Any:
        shapes = [y.aval.shape for y in equation.outvars]
        if not np.all(np.isfinite(x)):
            return [np.full(shape, np.nan) for shape in shapes]
        if not p["compute_uv"]:
            return [np.linalg.svd(x, compute_uv=False)]
        left, sizes, right = np.linalg.svd(x, full_matrices=p["full_matrices"])
        return sizes, left, right

    return None if p.get("subset_by_index") else run


def _take_a_turn() -> None:
    _left.turns -= 1
    if _left.turns < 0:
        raise TooLongError


def _while(equation: Any) -> Operation:
    p = equation.params
    goes_on, body = HostProgram(p["cond_jaxpr"]), HostProgram(p["body_jaxpr"])
    first, second = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def run(*arguments: Any) -> Any:
        fixed, fixed_body, carry = arguments[:first], arguments[first:second], arguments[second:]
        while goes_on(*fixed, *carry)[0]:
            _take_a_turn()
            carry = body(*fixed_body, *carry)
        return carry

    return run


def _scan(equation: Any) -> Operation:
    p = equation.params
    body, fixed, carried = HostProgram(p["jaxpr"]), p["num_consts"], p["num_carry"]
    turns = range(p["length"])[:: -1 if p["reverse"] else 1]
    kept = [x.aval for x in equation.outvars[carried:]]

    def run(*arguments: Any) -> Any:
        constants, carry = arguments[:fixed], arguments[fixed : fixed + carried]
        every = arguments[fixed + carried :]
        rows = [np.empty(x.shape, x.dtype) for x in kept]
        for i in turns:
            _take_a_turn()
            found = body(*constants, *carry, *(x[i] for x in every))
            carry = found[:carried]
            for row, value in zip(rows, found[carried:], strict=True):
                row[i] = value
        return [*carry, *rows]

    return run


def _cond(equation: Any) -> Operation:
    branches = [HostProgram(x) for x in equation.params["branches"]]

    def run(index: Any, *arguments: Any) -> Any:
        return branches[min(max(int(index), 0), len(branches) - 1)](*arguments)

    return run


def _reshape(equation: Any) -> Operation:
    shape = equation.params["new_sizes"]
    return lambda x: x.reshape(shape)


def _transpose(equation: Any) -> Operation:
    order = equation.params["permutation"]
    return lambda x: x.transpose(order)


def _squeeze(equation: Any) -> Operation:
    shape = equation.outvars[0].aval.shape
    return lambda x: x.reshape(shape)


def _bitcast(equation: Any) -> Operation:
    dtype = np.dtype(equation.params["new_dtype"])
    return lambda x: np.asarray(x).view(dtype)


def _concatenate(equation: Any) -> Operation:
    axis = equation.params["dimension"]
    return lambda *arrays: np.concatenate(arrays, axis)


def _stack(equation: Any) -> Operation:
    axis = equation.params["axis"]
    return lambda *arrays: np.stack(arrays, axis)


def _put(x: Any, where: Any, updates: Any) -> None:
    x[where] = updates


#: Operations that need their arrays in full, as functions of the equation; None leaves it to JAX.
_WHOLE: dict[str, Callable[[Any], Operation | None]] = {
    "argmax": _index_of(np.argmax),
    "argmin": _index_of(np.argmin),
    "bitcast_convert_type": _bitcast,
    "concatenate": _concatenate,
    "cond": _cond,
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
    "scan": _scan,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "svd": _svd,
    "transpose": _transpose,
    "while": _while,
}
