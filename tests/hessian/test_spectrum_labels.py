"""What eigenvalues are said to come from: a phrase, and every part of it."""

import numpy as np
from points import make

from ufm import CrossEntropy, Problem, spectrum
from ufm.hessian.spectrum_result import Gauge, Part, assemble


def test_labels_are_a_phrase_and_parts_say_all():
    settings = {"num_classes": 10, "per_class": 100, "dim": 16, "lam_w": 5e-4, "lam_h": 5e-4}
    found = spectrum(Problem.balanced(loss=CrossEntropy(), **settings, lam_b=1e-2))
    assert set(found.labels) == {
        "class means",
        "deviations from class means",
        "outside the row space and others",
    }
    # The zeros: (K−1)(d−K+1) outside, (K−1)(K−2)/2 skew ones of the class means.
    assert (found.labels[0], found.multiplicities[0]) == ("outside the row space and others", 99)
    assert found.parts[0] == ("class means: (K−2, 1, 1)", "outside the row space: −")
    # λ_W + λ_H: K−1 times d−K+1 outside; trivial, standard and (K−2, 2) of the class means.
    at = int(np.argmin(np.abs(found.eigenvalues - 1e-3)))
    assert found.multiplicities[at] == 63 + 1 + 9 + 35
    assert found.labels[at] == "outside the row space and others"


def test_the_phrase_is_that_of_the_largest_multiplicity():
    parts = [Part("b: 1", np.zeros(1), 2, 0.0), Part("a", np.zeros(1), 3, 0.0)]
    gauge = Gauge(0, 0.0, True)
    problem = make(CrossEntropy())
    one = assemble(parts, problem=problem, gauge=gauge, method="")
    more = assemble(
        [*parts, parts[0]._replace(label="b: 2")], problem=problem, gauge=gauge, method=""
    )
    assert (one.labels, one.parts) == (("a and others",), (("a", "b: 1"),))
    assert (more.labels, more.parts) == (("b and others",), (("a", "b: 1", "b: 2"),))
