"""Captions define the f of their problem, and name f* only where it is proven."""

import re

import numpy as np
import pytest

import ufm
from ufm.report.runs.captions import OBJECTIVE, caption, objective_in_tex

PLAIN = {"loss": ufm.CrossEntropy(), "num_classes": 3, "per_class": 2, "dim": 4}
DECAYS = {"lam_w": 1e-2, "lam_h": 1e-2, "lam_b": 1e-2}


def make(**changes):
    return ufm.Problem.balanced(**(PLAIN | DECAYS | changes))


def test_the_plain_model():
    assert objective_in_tex(make()) == OBJECTIVE
    assert objective_in_tex(make(lam_b=None)) == OBJECTIVE.replace("W,H,b", "W,H").replace(
        "h_i+b", "h_i"
    ).replace(r"+\frac{\lambda_b}2\|b\|^2", "")


@pytest.mark.parametrize(
    ("changes", "logits", "decays"),
    [
        ({"lam_hidden": (1e-2,)}, "WF_1h_i+b", ["W", "H", "F_l", "b"]),
        ({"lam_hidden": (1e-2,) * 3}, r"WF_1\cdots F_3h_i+b", ["W", "H", "F_l", "b"]),
        (
            {"features": ufm.Sphere(), "lam_h": None, "temperature": 0.1, "lam_b": None},
            r"Wh_i/\tau",
            ["W"],
        ),
        ({"classifier": ufm.Fixed(np.eye(3, 4)), "lam_w": None}, "Wh_i+b", ["H", "b"]),
    ],
)
def test_variants_have_their_logits_and_decays(changes, logits, decays):
    problem = make(**changes)
    said = objective_in_tex(problem)
    assert f"L({logits},y_i)" in said
    assert re.findall(r"2\\\|(\w+)\\\|", said) == decays
    fixed, layers = problem.classifier is not None, bool(problem.lam_hidden)
    assert said.startswith("$f(H" if fixed else "$f(W,F_1" if layers else "$f(W,H")


def test_a_contrastive_problem_has_no_classifier():
    said = objective_in_tex(ufm.ContrastiveProblem((2, 2), 3))
    assert "W" not in said
    assert r"\log\sum_{a\ne i}" in said


def test_an_unproven_minimum_is_called_so():
    assert r"$f-f^\star$" in caption("convergence", make())
    assert "not proven" in caption("convergence", make(), is_exact=False)
    assert "{gap}" not in caption("convergence", make(), is_exact=False)
