"""Spectra, in quick mode: what it prints is what it claims."""

import re

import numpy as np
from example_runs import run_example


def test_it_explains_every_zero_and_agrees_with_lapack(tmp_path, monkeypatch, capsys):
    figure = tmp_path / "figure.png"
    run_example("03_spectra", monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    # Rotations of a frame of rank r = 3 in d = 6 dimensions: r(d−r) + r(r−1)/2; of rank 4: 14.
    assert printed.count("rotations explain 12 of 12 zeros") == 3
    assert printed.count("rotations explain 14 of 14 zeros") == 1
    smallest = re.findall(r"smallest (\S+), predicted (\S+)", printed)
    assert len(smallest) == 4
    assert all(found == predicted for found, predicted in smallest)
    # CE: ‖G‖ = 1/(K√n), and (λ_W+λ_H)/2 − ‖G‖ is the smallest eigenvalue.
    np.testing.assert_allclose(float(smallest[0][0]), 5e-4 - 1 / (4 * 5**0.5), rtol=1e-6)
    errors = re.findall(r"against LAPACK: (\S+)", printed)
    assert len(errors) == 4
    assert all(float(error) < 1e-9 for error in errors)
    assert figure.read_bytes().startswith(b"\x89PNG")
