"""The landscape, in quick mode: what it prints is what it claims."""

import re

from example_runs import run_example


def test_it_finds_strict_saddles_with_the_indices_of_lapack(tmp_path, monkeypatch, capsys):
    figure = tmp_path / "figure.png"
    run_example("04_landscape", monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    total, saddles, spurious = map(
        int,
        re.search(
            r"K=4: (\d+) critical points found: 1 global minimum, (\d+) strict saddles, "
            r"(\d+) counterexamples",
            printed,
        ).groups(),
    )
    assert (saddles, spurious) == (total - 1, 0)
    # The minimum, the origin, and of every rank between a rung and a partition saddle.
    assert total >= 6
    assert f"indices equal to LAPACK's: {total} of {total}" in printed
    assert f"indices at d=12 as predicted from d=5: {total} of {total}" in printed
    # The origin has K−1 = 3 directions down in each of the 5 dimensions; LS is log 4 there.
    assert re.search(r"f=1\.386294, rank 0, index 15, .*, falls to", printed)
    assert figure.read_bytes().startswith(b"\x89PNG")
