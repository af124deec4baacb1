"""What a REPL and a notebook show of a result."""

import dataclasses
import html
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm._support.shown import MOST_ROWS, WIDTH, Shown, text
from ufm.collapse.metrics import NCMetrics
from ufm.hessian.counts.inertia import Inertia

#: Arguments, whose own representation says how to write them.
ARGUMENTS = (ufm.Loss, ufm.SearchSpace)
BATCH = NCMetrics(*(jnp.linspace(0.0, i, 12) for i in range(1, 6)))


@dataclasses.dataclass(frozen=True, repr=False)
class Named(Shown):
    note: str


def test_every_exported_result_is_shown_and_no_argument_is():
    for name in ufm.__all__:
        found = getattr(ufm, name)
        if inspect.isclass(found) and dataclasses.is_dataclass(found):
            assert issubclass(found, Shown) != issubclass(found, ARGUMENTS), name


def test_every_name_that_is_printed_exists():
    for name in ufm.__all__:
        found = getattr(ufm, name)
        if inspect.isclass(found) and issubclass(found, Shown):
            fields = {field.name for field in dataclasses.fields(found)}
            for printed in found._printed:
                assert printed in fields or isinstance(getattr(found, printed), property)
            assert len(found._printed) <= MOST_ROWS


@pytest.fixture(scope="module")
def problem():
    counts = (100,) * 10
    loss = ufm.CrossEntropy()
    return ufm.Problem(loss=loss, class_counts=counts, dim=16, lam_w=5e-4, lam_h=5e-4, lam_b=1e-2)


def test_a_problem_in_seven_lines(problem):
    lines = repr(problem).splitlines()
    assert len(lines) == 7
    assert lines[2].split() == ["class_counts", "10", "×", "100"]
    assert lines[4].split() == ["lam_w", "0.0005"]


def test_arrays_are_never_written_out_but_for_a_few_numbers():
    params = ufm.Params(jnp.ones((3, 4)), jnp.ones((4, 3000)), jnp.arange(3.0))
    shown = repr(params).splitlines()
    assert shown == ["Params", "  W  f64[3,4]", "  H  f64[4,3000]", "  b  [0, 1, 2]"]


def test_a_batch_shows_its_range():
    assert "nc3                   f64[12] from 0 to 3" in repr(BATCH)
    assert text(jnp.full(9, 0.25)) == "f64[9] all 0.25"
    assert text(np.full(9, np.nan)) == "f64[9]"


def test_tracers_and_shapes_are_shown_too():
    seen = []
    jax.jit(lambda x: seen.append(repr(x)) or x)(BATCH)
    assert "nc1                   f64[12]" in seen[0]
    assert len(repr(jax.eval_shape(lambda: BATCH)).splitlines()) == 6


def test_the_batch_code_of_an_enum_is_named_on_a_single_point():
    assert text(ufm.Verdict.STRICT_SADDLE) == "STRICT_SADDLE"


def test_small_numbers_are_short_and_values_are_not():
    assert text(0.18369199571234567) == "0.1836919957"
    assert text(1.681501738e-15) == "1.682e-15"


def test_long_lines_are_cut_and_say_so():
    lines = repr(Named("x" * 300)).splitlines()
    assert lines[1] == f"  note  {'x' * (WIDTH - 1)}…"


def test_what_must_not_be_overlooked_comes_last():
    doubtful = Inertia(1, 2, 3, -1e-8, 1e-8, False)
    assert repr(doubtful).splitlines()[-1].strip().startswith("NOT RELIABLE")
    assert "NOT RELIABLE" in doubtful._repr_html_()
    assert "NOT RELIABLE" not in repr(dataclasses.replace(doubtful, reliable=True))


def test_a_notebook_shows_the_same_rows_as_a_table():
    rows = re.findall(
        r'<tr><th scope="row"[^>]*>(.*?)</th><td[^>]*>(.*?)</td>', BATCH._repr_html_()
    )
    shown = [line.split(maxsplit=1) for line in repr(BATCH).splitlines()[1:]]
    assert [[html.unescape(x) for x in row] for row in rows] == shown


def test_nothing_in_a_table_is_markup():
    assert "<script>" not in Named("<script>")._repr_html_()
