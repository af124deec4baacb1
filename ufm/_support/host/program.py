"""Run JAX programs by NumPy: a program that runs once need not be compiled.

JAX traces a function to a list of operations (a jaxpr); this module translates the list into a
function in Python that calls NumPy. Tracing `ufm.solve` takes a twentieth of the time of compiling
it. Called functions are inlined, constants are folded, equal operations are computed once, and
unused results are dropped. A broadcast is left to the following operation, since NumPy broadcasts
implicitly. JAX runs the operations that are missing from the table.

Results agree with those of the compiled program up to rounding, because the order of sums differs.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ufm._support.host.elementwise import ELEMENTWISE, Operation, is_elementwise
from ufm._support.host.jaxprs import called, changes_nothing
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

    @property
    def written(self) -> tuple[int, ...]:
        return (self.outputs,) if isinstance(self.outputs, int) else self.outputs


class HostProgram:
    """A jaxpr as a list of steps, and as a function that makes them.

    `known` are the arguments that are the same in every call, and None for the others.
    """

    def __init__(self, closed: ClosedJaxpr, known: Sequence[Any] | None = None) -> None:
        #: Actual shape of each slot's array, which broadcasts to its shape in the jaxpr.
        self._shapes: list[tuple[int, ...]] = []
        #: Values of the slots that do not depend on the arguments, and the slots by value.
        self._constants: dict[int, Any] = {}
        self._slot_of_value: dict[Hashable, int] = {}
        #: Outputs of the steps so far, by operation and inputs.
        self._made: dict[Hashable, list[int]] = {}
        self._steps: list[_Step] = []
        inputs = [self._new(x.aval.shape) for x in closed.jaxpr.invars]
        given = known or [None] * len(inputs)
        read = [
            slot if x is None else self._constant_of(x)
            for slot, x in zip(inputs, given, strict=True)
        ]
        outputs = [
            self._full(slot, x.aval.shape)
            for slot, x in zip(self._translate(closed, read), closed.jaxpr.outvars, strict=True)
        ]
        self._drop_unread(outputs)
        #: Computes a tuple of outputs from the arguments.
        self.function = _function(self._steps, inputs, outputs, self._constants)

    def run(self, arguments: Sequence[Any], most_turns: int) -> list[Any]:
        """Compute the outputs. Raises `TooLongError` after `most_turns` iterations of all loops."""
        _left.turns = most_turns
        with np.errstate(all="ignore"):  # as on every backend: infinity and NaN are results
            return [*self.function(*arguments)]

    def _new(self, shape: Sequence[int]) -> int:
        self._shapes.append(tuple(shape))
        return len(self._shapes) - 1

    def _constant_of(self, value: Any) -> int:
        key = (value.dtype, value.shape, value.strides, value.tobytes())
        slot = self._slot_of_value.get(key)
        if slot is None:
            slot = self._slot_of_value[key] = self._new(value.shape)
            self._constants[slot] = value
        return slot

    def _append(
        self,
        run: Operation,
        inputs: Sequence[int],
        shapes: Sequence[Any],
        several: bool = False,
        key: Hashable = None,
    ) -> list[int]:
        """Append a step that returns one array or `several`; evaluate a constant one at once.

        Steps on the same inputs with the same `key` are one. It is None for loops, which are
        neither evaluated nor compared.
        """
        signature = (key, *inputs)
        if key is not None and signature in self._made:
            return self._made[signature]
        if key is not None and self._constants.keys() >= set(inputs):
            with np.errstate(all="ignore"):
                found = _callable(run, len(inputs))(*[self._constants[i] for i in inputs])
            outputs = [self._constant_of(x) for x in (found if several else [found])]
        else:
            outputs = [self._new(shape) for shape in shapes]
            self._steps.append(_Step(run, tuple(inputs), tuple(outputs) if several else outputs[0]))
        self._made[signature] = outputs
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
            inner = called(equation)
            if inner is not None:
                found = self._translate(inner, slots)
            elif equation.primitive.name == "broadcast_in_dim" and len(slots) == 1:
                found = [self._broadcast(slots[0], equation)]
            elif changes_nothing(equation):
                found = slots
            elif is_elementwise(equation):
                found = [self._elementwise(equation, slots)]
            else:
                found = self._whole(equation, slots)
            where.update(zip(equation.outvars, found, strict=True))
        return [slot_of(x) for x in jaxpr.outvars]

    def _elementwise(self, equation: Any, slots: list[int]) -> int:
        name, held = equation.primitive.name, [self._shapes[i] for i in slots]
        shape, key = np.broadcast_shapes(*held), _key(equation)
        # A scalar condition selects an array without copying it.
        if name == "select_n" and not held[0] and {*held[1:]} == {shape} and len(held) == 3:
            return self._append("{2} if {0} else {1}", slots, [shape], key=key)[0]
        (found,) = self._append(ELEMENTWISE[name](equation), slots, [shape], key=key)
        if len(shape) == 2 and shape[0] > shape[1] and shape not in held:
            # Like the arrays that it meets: sums over rows of a few entries are slow.
            (found,) = self._append(np.asfortranarray, [found], [shape], key="columns")
        return found

    def _whole(self, equation: Any, slots: list[int]) -> list[int]:
        pairs = zip(slots, equation.invars, strict=True)
        full = [self._full(slot, x.aval.shape) for slot, x in pairs]
        shapes = [x.aval.shape for x in equation.outvars]
        several, loop = equation.primitive.multiple_results, _LOOPS.get(equation.primitive.name)
        if loop is not None:
            run = loop(equation, [self._constants.get(i) for i in full])
            if run is not None:
                return self._append(run, full, shapes, several)
        return self._append(_operation(equation), full, shapes, several, _key(equation))

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
        run = f"{{}}.reshape({tuple(new)})"
        return self._append(run, [slot], [new], key=run)[0]

    def _full(self, slot: int, shape: Sequence[int]) -> int:
        """Broadcast the array to its shape in the jaxpr."""
        if self._shapes[slot] == tuple(shape):
            return slot
        if slot in self._constants:  # in memory of its own: products with a view of it are slow
            return self._constant_of(np.array(np.broadcast_to(self._constants[slot], shape)))
        if max(shape) == 1:
            return self._append(f"{{}}.reshape({tuple(shape)})", [slot], [shape], key=shape)[0]
        key = ("broadcast", tuple(shape))
        return self._append(lambda x: np.broadcast_to(x, shape), [slot], [shape], key=key)[0]

    def _drop_unread(self, outputs: list[int]) -> None:
        read, kept = set(outputs), []
        for step in reversed(self._steps):
            if not read.isdisjoint(step.written):
                kept.append(step)
                read.update(step.inputs)
        self._steps = kept[::-1]


def _key(equation: Any) -> Hashable:
    return (equation.primitive.name, *equation.params.items())


def _on_host(value: Any) -> Any:
    return np.array(value)[()]


@functools.cache
def _callable(run: Operation, count: int) -> Callable[..., Any]:
    """An operation as a function, if it is an expression with a gap for each argument."""
    if not isinstance(run, str):
        return run
    names = [f"x{i}" for i in range(count)]
    return eval(f"lambda {', '.join(names)}: {run.format(*names)}")


def _function(
    steps: list[_Step], inputs: list[int], outputs: list[int], constants: dict[int, Any]
) -> Callable[..., tuple[Any, ...]]:
    """A function of the inputs with one line for each step."""
    scope: dict[str, Any] = {"np": np}
    #: The text for each slot; a name is free again once its slot has been read for the last time.
    text: dict[int, str] = {}
    last = {slot: i for i, step in enumerate(steps) for slot in step.inputs}
    free, fresh = list[str](), (f"v{i}" for i in itertools.count())

    def written(slot: int) -> str:
        text[slot] = free.pop() if free else next(fresh)
        return text[slot]

    def read(slot: int) -> str:
        if slot in constants:
            text[slot] = f"k{slot}"
            scope[text[slot]] = constants[slot]
        return text[slot]

    arguments = [written(slot) for slot in inputs]
    lines = [f"def program({', '.join(arguments)}):"]
    for i, step in enumerate(steps):
        given = [read(slot) for slot in step.inputs]
        if isinstance(step.run, str):
            made = step.run.format(*given)
        else:
            scope[f"f{i}"] = step.run
            made = f"f{i}({', '.join(given)})"
        dead = {x for x in step.inputs if last[x] == i} - {*outputs} - constants.keys()
        free += [text[slot] for slot in dead]
        names = [written(slot) for slot in step.written]
        ends = "," if not isinstance(step.outputs, int) else ""
        lines.append(f" {', '.join(names)}{ends} = {made}")
    lines.append(f" return ({''.join(f'{read(slot)}, ' for slot in outputs)})")
    exec("\n".join(lines), scope)
    return scope["program"]


def _operation(equation: Any) -> Operation:
    name, build = equation.primitive.name, WHOLE.get(equation.primitive.name)
    if name not in _EMPTY_TOO and any(0 in x.aval.shape for x in equation.invars):
        build = None
    found = None if build is None else build(equation)
    return found or _by_jax(equation)


def _by_jax(equation: Any) -> Operation:
    primitive, parameters = equation.primitive, equation.params

    def run(*arguments: Any) -> Any:
        found = primitive.bind(*jax.device_put(arguments), **parameters)
        return [_on_host(x) for x in found] if primitive.multiple_results else _on_host(found)

    return run


def _take_a_turn() -> None:
    _left.turns -= 1
    if _left.turns < 0:
        raise TooLongError


def _while(equation: Any, known: list[Any]) -> Operation | None:
    p = equation.params
    if p["cond_jaxpr"].out_avals[0].shape:  # mapped: each entry ends when its own turn comes
        return None
    first, second = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    carried = [None] * (len(known) - second)
    goes_on = HostProgram(p["cond_jaxpr"], known[:first] + carried).function
    body = HostProgram(p["body_jaxpr"], known[first:second] + carried).function

    def run(*arguments: Any) -> Any:
        fixed, fixed_body, carry = arguments[:first], arguments[first:second], arguments[second:]
        while goes_on(*fixed, *carry)[0]:
            _take_a_turn()
            carry = body(*fixed_body, *carry)
        return carry

    return run


def _scan(equation: Any, known: list[Any]) -> Operation:
    p = equation.params
    # JAX 0.12 renamed the parameters with the numbers of constants and carries. Count them by rank:
    # scanned and stacked arrays have one axis more outside the body.
    carried = _of_equal_rank(equation.outvars, p["jaxpr"].out_avals)
    fixed = _of_equal_rank(equation.invars, p["jaxpr"].in_avals) - carried
    body = HostProgram(p["jaxpr"], known[:fixed] + [None] * (len(known) - fixed)).function
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


def _cond(equation: Any, known: list[Any]) -> Operation:
    branches = [HostProgram(x, known[1:]).function for x in equation.params["branches"]]

    def run(index: Any, *arguments: Any) -> Any:
        return branches[min(max(int(index), 0), len(branches) - 1)](*arguments)

    return run


_LOOPS = {"cond": _cond, "scan": _scan, "while": _while}
#: Operations on which NumPy and XLA agree for arrays without entries, too.
_EMPTY_TOO = {"dot_general", "reduce_and", "reduce_or", "reduce_sum", "reshape", "transpose"}
