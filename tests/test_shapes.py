"""What is checked in a call: functions with shapes in their signatures, and only these."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Array, Float, TypeCheckError
from shapes import checked, has_shapes

from ufm._support.host.jaxprs import is_supported
from ufm.certificates.second_order import _outside_row_space
from ufm.minimum.structures import Table
from ufm.model.params import Params


@pytest.mark.parametrize(
    "hint",
    [
        Float[Array, "K d"],
        Float[np.ndarray | Array, "*batch"],
        float | Float[Array, ""],
        tuple[int, dict[str, Table]],
        Callable[[Float[Array, " K"]], int],
        "Problem",
    ],
)
def test_a_shape_is_seen(hint):
    assert has_shapes(hint)


@pytest.mark.parametrize(
    "hint", [int, Array, None, float | None, tuple[str, ...], Callable[..., int]]
)
def test_plain_types_have_none(hint):
    assert not has_shapes(hint)


def test_the_first_thirty_calls_refuse_a_wrong_shape_and_then_one_in_thirty():
    def defined_anew():
        def rows(x: Float[Array, "K d"]) -> int:
            return len(x)

        return checked(rows, beartype)

    refused = []
    for call in range(200):
        try:
            defined_anew()(jnp.zeros(3))
        except TypeCheckError:
            refused.append(call)
    assert refused == [*range(30), *range(30, 200, 30)]


def test_a_class_refuses_a_wrong_shape():
    with pytest.raises(TypeCheckError, match="batch K"):
        Params(W=jnp.zeros((2, 3)), H=jnp.zeros((3, 4)), b=jnp.zeros(5))


def test_a_function_is_checked_or_left_as_it_is(request):
    functions = {_outside_row_space: True, is_supported: request.config.getoption("--full")}
    assert {each: hasattr(each, "__wrapped__") for each in functions} == functions
