"""Convert a census to JSON and arrays for a folder of results, and back.

The arrays are those of the search space, with a leading axis over the points: W, H, b and hidden
layers, and the direction of the smallest eigenvalue. All other fields are in the JSON, under the
names of `CriticalPoint`, with derived numbers (f − f*, the kinds of search, the estimates).

    entry, arrays = census_entry(census, seconds), census_arrays(census)
    same = read_census(problem, entry, arrays)
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ufm._support.pytree import stacked
from ufm.certificates.certificate import Reason, Verdict
from ufm.landscape.census import Census, Descent, Search
from ufm.landscape.point import CriticalPoint
from ufm.landscape.point_space import PointSpace, search_space
from ufm.losses import loss_spec
from ufm.minimum.global_minimum import global_minimum
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Numeric fields of a point in the JSON.
_NUMBERS = (
    "value",
    "grad_norm",
    "rank",
    "dual_norm",
    "dual_ratio",
    "index",
    "zero_modes",
    "gauge_modes",
    "smallest",
    "residual",
    "escape",
    "curvature",
    "gap",
)


def array_names(problem: Problem) -> tuple[str, ...]:
    """Names of the arrays, those of points and those of directions."""
    hidden = (f"hidden[{i}]" for i in range(len(problem.lam_hidden)))
    names = ("W", "H", *(("b",) if problem.has_bias else ()), *hidden)
    return (*names, *(f"direction_{name}" for name in names))


def census_entry(census: Census, seconds: float) -> dict[str, Any]:
    """The JSON entry, without arrays; `seconds` is the time of the search."""
    problem, minimum = census.problem, census.minimum
    loss, targets = problem.loss.without_targets()
    return {
        "loss": loss_spec(loss),
        "label": problem.loss.label(),
        "problem": {
            "class_counts": list(problem.class_counts),
            "dim": problem.dim,
            "lam_w": float(problem.lam_w),
            "lam_h": float(problem.lam_h),
            "lam_b": None if problem.lam_b is None else float(problem.lam_b),
            "num_parameters": problem.num_parameters,
            **_hidden_layers(problem),
            **({} if targets is None else {"targets": targets.tolist()}),
        },
        "minimum": {
            name: getattr(minimum, name)
            for name in ("value", "lower_bound", "is_exact", "kind", "reason")
        },
        "verdicts": {verdict.name: census.count(verdict) for verdict in Verdict},
        "counterexamples": len(census.counterexamples),
        "ladder": {str(rank): value for rank, value in census.ladder.items()},
        "partitions": census.partitions,
        "partitions_total": census.partitions_total,
        "is_complete_space": census.is_complete_space,
        "note": census.note,
        "searches": [_search_entry(each) for each in census.searches],
        "root_finder": _search_entry(census.root_finder),
        "points": [_point_entry(point, minimum.value) for point in census.points],
        "descents": [dataclasses.asdict(each) for each in census.descents],
        "seconds": seconds,
    }


def _hidden_layers(problem: Problem) -> dict[str, Any]:
    if not problem.lam_hidden:
        return {}
    decays = [float(x) for x in problem.lam_hidden]
    return {"lam_hidden": decays, "hidden_dims": list(problem.hidden_dims)}


def _search_entry(search: Search) -> dict[str, Any]:
    estimates = {"hit_rate": search.hit_rate, "unseen": search.unseen}
    return {**dataclasses.asdict(search), **estimates}


def _point_entry(point: CriticalPoint, lowest: float) -> dict[str, Any]:
    return {
        **{name: getattr(point, name) for name in _NUMBERS},
        "excess": point.value - lowest,
        "is_degenerate": point.is_degenerate,
        "singular_values": point.singular_values.tolist(),
        "verdict": point.verdict.name,
        "reason": point.reason.name,
        "hits": point.hits,
        "found_by": list(point.found_by),
    }


def point_columns(census: Census) -> dict[str, Any]:
    """One CSV row for each point, with the fields of `CriticalPoint` and text columns."""
    entries = [_point_entry(point, census.minimum.value) for point in census.points]
    numbers = ("excess", *_NUMBERS)
    blank = {name: [math.nan if e[name] is None else e[name] for e in entries] for name in numbers}
    return {
        "loss": census.problem.loss.label(),
        "point": np.arange(len(entries)),
        **{name: np.array(values) for name, values in blank.items()},
        "hits": np.array([sum(e["hits"].values()) for e in entries]),
        **{name: np.array([e[name] for e in entries]) for name in ("verdict", "reason")},
        "found_by": np.array([" ".join(e["found_by"]) for e in entries]),
    }


def census_arrays(census: Census) -> dict[str, np.ndarray]:
    """W (P×K×d), H (P×d×N), b (P×K) of the P points in the search space, and their directions."""
    names = array_names(census.problem)
    batches = [[p.point for p in census.points], [p.direction for p in census.points]]
    every = [stacked(batch) for batch in batches]
    leaves = [x for each in every for x in (each.W, each.H, each.b, *each.hidden) if x is not None]
    return dict(zip(names, map(np.asarray, leaves), strict=True))


def read_census(problem: Problem, entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> Census:
    """Restore the census of a problem.

    Raises `KeyError` if a field or an array is missing, and `ValueError` for an unknown verdict or
    reason.
    """
    space = search_space(problem)
    points = [
        _read_point(space, stored, {name: array[i] for name, array in arrays.items()})
        for i, stored in enumerate(entry["points"])
    ]
    return Census(
        problem=problem,
        points=tuple(points),
        minimum=global_minimum(problem),
        searches=tuple(_read(Search, each) for each in entry["searches"]),
        descents=tuple(_read(Descent, each) for each in entry["descents"]),
        partitions=entry["partitions"],
        partitions_total=entry["partitions_total"],
        is_complete_space=entry["is_complete_space"],
        note=entry["note"],
    )


def _read(kind: type, stored: dict[str, Any]) -> Any:
    return kind(**{field.name: stored[field.name] for field in dataclasses.fields(kind)})


def _member(kind: Any, name: str) -> Any:
    """The member of `kind` with this name. Raises `ValueError` if there is none."""
    if name not in kind.__members__:
        raise ValueError(f"{name!r} is not a {kind.__name__.lower()} of a stored point")
    return kind[name]


def _read_point(
    space: PointSpace, stored: dict[str, Any], arrays: dict[str, np.ndarray]
) -> CriticalPoint:
    numbers = {name: stored[name] for name in _NUMBERS}
    if numbers["gap"] is None:  # no lower bound is known
        numbers["gap"] = math.inf
    return CriticalPoint(
        space=space,
        point=_params(arrays, ""),
        direction=_params(arrays, "direction_"),
        singular_values=np.array(stored["singular_values"]),
        verdict=_member(Verdict, stored["verdict"]),
        reason=_member(Reason, stored["reason"]),
        hits=stored["hits"],
        **numbers,
    )


def _params(arrays: dict[str, np.ndarray], prefix: str) -> Params:
    own = {name: jnp.asarray(array) for name, array in arrays.items()}
    hidden = tuple(x for name, x in own.items() if name.startswith(f"{prefix}hidden["))
    return Params(own[f"{prefix}W"], own[f"{prefix}H"], own.get(f"{prefix}b"), hidden)
