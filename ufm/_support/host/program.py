"""Run JAX programs by NumPy, operation by operation: a program that runs once need not be compiled.

JAX traces a function to a list of operations (a jaxpr); this module translates the list into calls
of NumPy. Tracing `ufm.solve` takes a twentieth of the time of compiling it. Called functions are
inlined, and unused results are dropped. A broadcast is left to the following operation, since NumPy
broadcasts implicitly. JAX runs the operations that are missing from the table.

Results agree with those of the compiled program up to rounding, because the order of sums differs.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ufm._support.host.elementwise import ELEMENTWISE, Operation, is_elementwise
from ufm._support.host.whole_arrays import WHOLE

#: Number of loop iterations that the run in this thread may still make.
_left = threading.local()


class TooLongError(Exception):
    """The loops of a run on the host have exceeded their number of iterations."""


class _Step(NamedTuple):
    """outputs = run(*inputs); inputs and outputs are numbers of slots."""

    run: Operation
    inputs: tuple[int, ...]
    #: A single number if there is one output, which `run` then returns without a tuple.
    outputs: int | tuple[int, ...]
    #: Slots that are read here for the last time.
    last: tuple[int, ...] = ()


class HostProgram:
    """A jaxpr as a list of steps."""

    def __init__(self, closed: ClosedJaxpr) -> None:
        #: Initial values of the slots: constants, and None.
        self._slots: list[Any] = []
        #: Actual shape of each slot's array, which broadcasts to its shape in the jaxpr.
        self._shapes: list[tuple[int, ...]] = []
        #: Slots whose values do not depend on the arguments.
        self._constant: set[int] = set()
        self._steps: list[_Step] = []
        self._inputs = [self._new(x.aval.shape) for x in closed.jaxpr.invars]
        found = self._translate(closed, self._inputs)
        self._outputs = [
            self._full(slot, x.aval.shape)
            for slot, x in zip(found, closed.jaxpr.outvars, strict=True)
        ]
        self._drop_unread()

    def run(self, arguments: Sequence[Any], most_turns: int) -> list[Any]:
        """Compute the outputs. Raises `TooLongError` after `most_turns` iterations of all loops."""
        _left.turns = most_turns
        with np.errstate(all="ignore"):  # as on every backend: infinity and NaN are results
            return self(*arguments)

    def __call__(self, *arguments: Any) -> list[Any]:
        slots = self._slots.copy()
        for slot, argument in zip(self._inputs, arguments, strict=True):
            slots[slot] = argument
        for run, inputs, outputs, last in self._steps:
            found = run(*[slots[i] for i in inputs])
            if isinstance(outputs, int):
                slots[outputs] = found
            else:
                for slot, value in zip(outputs, found, strict=True):
                    slots[slot] = value
            for slot in last:
                slots[slot] = None
        return [slots[i] for i in self._outputs]

    def _new(self, shape: Sequence[int]) -> int:
        self._slots.append(None)
        self._shapes.append(tuple(shape))
        return len(self._slots) - 1

    def _constant_of(self, value: Any) -> int:
        slot = self._new(np.shape(value))
        self._slots[slot] = value
        self._constant.add(slot)
        return slot

    def _append(
        self,
        run: Operation,
        inputs: Sequence[int],
        shapes: Sequence[Any],
        several: bool = False,
        now: bool = True,
    ) -> list[int]:
        """Append a step that returns one array or `several`; evaluate a constant one at once."""
        if self._constant.issuperset(inputs) and now:
            with np.errstate(all="ignore"):
                found = run(*[self._slots[i] for i in inputs])
            return [self._constant_of(x) for x in (found if several else [found])]
        outputs = [self._new(shape) for shape in shapes]
        self._steps.append(_Step(run, tuple(inputs), tuple(outputs) if several else outputs[0]))
        return outputs

    def _translate(self, closed: ClosedJaxpr, inputs: Sequence[int]) -> list[int]:
        """Append the steps of a jaxpr with inputs in these slots; return its output slots."""
        jaxpr = closed.jaxpr
        where: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.constvars, closed.consts, strict=True):
            where[variable] = self._constant_of(_on_host(value))

        def slot_of(x: Any) -> int:
            if not isinstance(x, Literal):
                return where[x]
            like: Any = x.aval
            return self._constant_of(np.asarray(x.val, like.dtype)[()])

        for equation in jaxpr.eqns:
            slots = [slot_of(x) for x in equation.invars]
            name, parameters = equation.primitive.name, equation.params
            inner = _called(name, parameters)
            if inner is not None:
                found = self._translate(inner, slots)
            elif name == "broadcast_in_dim" and len(slots) == 1:
                found = [self._broadcast(slots[0], equation)]
            elif _changes_nothing(equation):
                found = slots
            elif is_elementwise(equation):
                shape = np.broadcast_shapes(*(self._shapes[i] for i in slots))
                choice = name == "select_n" and not self._shapes[slots[0]]
                # A scalar condition selects an array without copying it.
                if choice and {self._shapes[i] for i in slots[1:]} == {shape}:
                    run = _choice
                else:
                    run = ELEMENTWISE[name](parameters)
                found = self._append(run, slots, [shape])
            else:
                full = [
                    self._full(i, x.aval.shape) for i, x in zip(slots, equation.invars, strict=True)
                ]
                run = _operation(equation)
                shapes = [x.aval.shape for x in equation.outvars]
                several, now = equation.primitive.multiple_results, name not in _LOOPS
                found = self._append(run, full, shapes, several, now)
            where.update(zip(equation.outvars, found, strict=True))
        return [slot_of(x) for x in jaxpr.outvars]

    def _broadcast(self, slot: int, equation: Any) -> int:
        """Give broadcast axes the length 1; keep scalars as scalars."""
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
        return self._append(lambda x: x.reshape(new), [slot], [new])[0]

    def _full(self, slot: int, shape: Sequence[int]) -> int:
        """Broadcast the array to its shape in the jaxpr."""
        if self._shapes[slot] == tuple(shape):
            return slot
        if slot in self._constant:  # in memory of its own: products with a view of it are slow
            return self._constant_of(np.array(np.broadcast_to(self._slots[slot], shape)))
        return self._append(lambda x: np.broadcast_to(x, shape), [slot], [shape])[0]

    def _drop_unread(self) -> None:
        read, kept = set(self._outputs), []
        for step in reversed(self._steps):
            outputs = (step.outputs,) if isinstance(step.outputs, int) else step.outputs
            if not read.isdisjoint(outputs):
                last = set(step.inputs) - read - self._constant
                kept.append(step._replace(last=tuple(last)))
                read.update(step.inputs)
        self._steps = kept[::-1]


def _on_host(value: Any) -> Any:
    return np.array(value)[()]


#: Other types are left to XLA: smaller integers, random keys, complex numbers, …
_DTYPES = {np.dtype(x) for x in ("bool", "int32", "int64", "float32", "float64")}


def is_supported(jaxpr: Jaxpr) -> bool:
    """Whether NumPy and XLA agree for the types of all arrays of a program."""
    variables = [*jaxpr.invars, *jaxpr.constvars, *(x for y in jaxpr.eqns for x in y.outvars)]
    given = [value for equation in jaxpr.eqns for value in equation.params.values()]
    inner = [x for value in given for x in (value if isinstance(value, tuple) else (value,))]
    return all(getattr(x.aval, "dtype", None) in _DTYPES for x in variables) and all(
        is_supported(x.jaxpr if isinstance(x, ClosedJaxpr) else x)
        for x in inner
        if isinstance(x, Jaxpr | ClosedJaxpr)
    )


_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat")


def _called(name: str, parameters: Any) -> ClosedJaxpr | None:
    """The jaxpr that an operation calls, if calling it is all that the operation does."""
    if name not in _CALLS:
        return None
    for value in parameters.values():
        if isinstance(value, ClosedJaxpr):
            return value
        if isinstance(value, Jaxpr):
            return ClosedJaxpr(value, ())
    return None


def _changes_nothing(equation: Any) -> bool:
    name = equation.primitive.name
    if name in ("copy", "copy_p", "stop_gradient"):
        return True
    if name not in ("convert_element_type", "reshape", "squeeze") or len(equation.invars) != 1:
        return False
    old, new = equation.invars[0].aval, equation.outvars[0].aval
    return (old.shape, old.dtype) == (new.shape, new.dtype)


def _choice(which: Any, *cases: Any) -> Any:
    return cases[min(max(int(which), 0), len(cases) - 1)]


def _operation(equation: Any) -> Operation:
    name = equation.primitive.name
    build = _LOOPS.get(name) or WHOLE.get(name)
    if name not in _EMPTY_TOO and any(0 in x.aval.shape for x in equation.invars):
        build = None
    found = None if build is None else build(equation)
    return found or _by_jax(equation)


def _by_jax(equation: Any) -> Operation:
    primitive, parameters = equation.primitive, equation.params

    def run(*arguments: Any) -> Any:
        found = primitive.bind(*(jnp.asarray(x) for x in arguments), **parameters)
        return [_on_host(x) for x in found] if primitive.multiple_results else _on_host(found)

    return run


def _take_a_turn() -> None:
    _left.turns -= 1
    if _left.turns < 0:
        raise TooLongError


def _while(equation: Any) -> Operation | None:
    p = equation.params
    if p["cond_jaxpr"].out_avals[0].shape:  # mapped: each entry ends when its own turn comes
        return None
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
    body = HostProgram(p["jaxpr"])
    # JAX 0.12 renamed the parameters with the numbers of constants and carries. Count them by rank:
    # scanned and stacked arrays have one axis more outside the body.
    carried = _of_equal_rank(equation.outvars, p["jaxpr"].out_avals)
    fixed = _of_equal_rank(equation.invars, p["jaxpr"].in_avals) - carried
    turns = range(p["length"])[:: -1 if p["reverse"] else 1]
    kept = [x.aval for x in equation.outvars[carried:]]

    def run(*arguments: Any) -> Any:
        if len(turns) > _left.turns:
            raise TooLongError
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


def _of_equal_rank(outside: Any, inside: Any) -> int:
    return sum(x.aval.ndim == y.ndim for x, y in zip(outside, inside, strict=True))


def _cond(equation: Any) -> Operation:
    branches = [HostProgram(x) for x in equation.params["branches"]]

    def run(index: Any, *arguments: Any) -> Any:
        return branches[min(max(int(index), 0), len(branches) - 1)](*arguments)

    return run


_LOOPS = {"cond": _cond, "scan": _scan, "while": _while}
#: Operations on which NumPy and XLA agree for arrays without entries, too.
_EMPTY_TOO = {
    *_LOOPS,
    "dot_general",
    "reduce_and",
    "reduce_or",
    "reduce_sum",
    "reshape",
    "transpose",
}
