"""A census goes through JSON and arrays and comes back as it was."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from landscapes import problem, small_census

from ufm._support.strict_json import dumps
from ufm.landscape.stored import (
    array_names,
    census_arrays,
    census_entry,
    point_columns,
    read_census,
)

#: What says where a point came from is not a number of it.
_APART = {"space", "point", "direction", "singular_values", "hits"}


@pytest.fixture(scope="module")
def again():
    census = small_census()
    entry = json.loads(dumps(census_entry(census, 1.5)))
    return read_census(problem(), entry, census_arrays(census))


def test_every_number_comes_back_to_the_same_bits(again):
    census = small_census()
    assert len(again.points) == len(census.points)
    for before, after in zip(census.points, again.points, strict=True):
        for field in dataclasses.fields(before):
            if field.name not in _APART:
                assert getattr(after, field.name) == getattr(before, field.name), field.name
        assert after.hits == before.hits
        np.testing.assert_array_equal(after.singular_values, before.singular_values)
        for name in ("params", "point", "direction"):
            jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before, name))
    for name in ("searches", "descents", "partitions", "partitions_total", "ladder", "note"):
        assert getattr(again, name) == getattr(census, name), name
    assert again.minimum.value == census.minimum.value


def test_a_gap_without_a_bound_is_infinite_again():
    census = small_census()
    open_gap = dataclasses.replace(census.points[0], gap=math.inf)
    changed = dataclasses.replace(census, points=(open_gap,), descents=())
    entry = json.loads(dumps(census_entry(changed, 0.0)))
    assert entry["points"][0]["gap"] is None
    assert read_census(problem(), entry, census_arrays(changed)).points[0].gap == math.inf


def test_the_root_finders_record_is_that_of_its_kinds(again):
    roots, kinds = again.root_finder, ("noise", "truncation", "perturbation")
    parts = [search for search in again.searches if search.kind in kinds]
    assert roots.starts == sum(part.starts for part in parts) == 24
    assert roots.critical == sum(part.critical for part in parts)
    hits = [sum(point.hits.get(kind, 0) for kind in kinds) for point in again.points]
    assert (roots.distinct, roots.singletons) == (np.count_nonzero(hits), hits.count(1))
    assert max(part.distinct for part in parts) <= roots.distinct
    assert roots.unseen == hits.count(1) / sum(hits)


def test_columns_are_those_of_the_points():
    census = small_census()
    table = point_columns(census)
    assert list(table["point"]) == list(range(len(census.points)))
    np.testing.assert_array_equal(table["index"], [p.index for p in census.points])
    np.testing.assert_array_equal(
        table["excess"], [p.value - census.minimum.value for p in census.points]
    )
    assert list(table["hits"]) == [sum(p.hits.values()) for p in census.points]
    assert math.isnan(table["escape"][0])  # a minimum has none
    assert set(array_names(census.problem)) == set(census_arrays(census))
