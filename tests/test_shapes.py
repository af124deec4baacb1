"""What is checked in a call: functions with shapes in their signatures, and only these."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, TypeCheckError
from shapes import has_shapes

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


def test_a_function_and_a_class_refuse_a_wrong_shape():
    with pytest.raises(TypeCheckError, match="K d"):
        _outside_row_space(jnp.zeros(3))
    with pytest.raises(TypeCheckError, match="batch K"):
        Params(W=jnp.zeros((2, 3)), H=jnp.zeros((3, 4)), b=jnp.zeros(5))


def test_each_call_is_checked_or_none_is(request):
    functions = {_outside_row_space: True, is_supported: request.config.getoption("--full")}
    assert {each: hasattr(each, "__wrapped__") for each in functions} == functions
