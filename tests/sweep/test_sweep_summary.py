"""What a sweep says of the claim: to which gap it is proven, and what could not be checked."""

import math

import numpy as np
import pytest

from sweeps import SIZES, loaded
from ufm.cli.output.sweep_table import conclusions
from ufm.sweep import open_store, run_sweep
from ufm.sweep.problems.summary import SHORT, UNCHECKED, claim, standing, summarise


def row(cells=4, proven=4, matches=4, differs=0, gap_tol=(1e-9, 1e-9)):
    counts = {"cells": cells, "global": proven, "matches": matches, "differs": differs}
    return counts | {"unchecked": cells - matches - differs, "gap_tol": list(gap_tol)}


def test_the_claim_names_the_largest_gap_that_counted():
    assert "minimum (f − f* ≤ 1.0e-09) with" in claim([row()], 4)
    several = [row(gap_tol=(3e-9, 1e-7)), row(gap_tol=(1e-8, 2e-6))]
    assert "minimum (f − f* ≤ 3.0e-09 to 2.0e-06, by problem) with" in claim(several, 8)
    # A loss without a proven run has no tolerance.
    unproven = row(proven=0, matches=0, gap_tol=(math.nan, math.nan))
    assert "0 of 4 runs ended at a proven global minimum; " in claim([unproven], 4)
    assert "(f − f* ≤ 1.0e-09)" in claim([unproven, row()], 8)


@pytest.mark.parametrize("tol", [1.01e-9, 1.049e-9, 1.05e-9, 9.99e-9, 1e-9, 9.51e-7])
def test_a_tolerance_is_never_rounded_down(tol):
    said = claim([row(gap_tol=(tol, tol))], 4)
    shown = float(said.partition("≤ ")[2].partition(")")[0])
    assert tol <= shown <= 1.1 * tol


def test_unknown_geometry_counts_neither_as_failing_nor_as_holding():
    unknown = row(matches=0)
    said = claim([unknown], 4)
    assert "The claim holds" not in said
    assert "0 have" not in said
    assert said.endswith("their geometry could not be checked, because no minimiser is known.")
    assert standing([unknown], 4) == "open"
    both = claim([unknown, row()], 8)
    assert both.endswith(
        "of 4 whose minimiser is known 4 have the predicted geometry; that of the other 4 could "
        "not be checked."
    )
    assert standing([row(), unknown], 8) == "open"


def test_where_the_claim_stands():
    assert standing([row(), row()], 8) == "holds"
    assert standing([row(), row()], 9) == "open"  # one is not finished
    assert standing([row(), row(proven=3)], 8) == "short"
    assert standing([row(), row(matches=3, differs=1)], 8) == "short"
    assert "3 of 4 have the predicted geometry" in claim([row(matches=3, differs=1)], 4)


def test_a_store_counts_what_was_checked(tmp_path):
    """Without decay no minimiser is known: those cells are unchecked, and named by the query."""
    text = f"""
    loss = ["ce"]
    [problem]
    {SIZES}
    lam_w = [0.0, 1e-2]
    lam_h = "lam_w"
    [solver]
    max_steps = 30
    [certificate]
    gap_tol = 1e-5
    """.replace("\n    ", "\n")
    run_sweep(loaded(tmp_path, text), tmp_path / "out")
    store = open_store(tmp_path / "out")
    (found,) = summarise(store)
    assert (found["matches"], found["differs"], found["unchecked"]) == (1, 0, 1)
    table = store.table()
    # gap_tol is relative to f(0) − f* = log K − f*.
    expected = 1e-5 * (math.log(4) - table["minimum"][1])
    np.testing.assert_allclose(found["gap_tol"], expected, rtol=1e-6)
    assert [cell["cell"] for cell in store.query(UNCHECKED)] == [0]
    assert [cell["cell"] for cell in store.query(SHORT)] == [0]
    assert "1 of 2 runs ended" in conclusions(store, [found])[0]
