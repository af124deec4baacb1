"""Every way to make a certificate say what is not so: verify.py says FAILED, and where."""

import dataclasses
import hashlib
import io
import json
import warnings
import zipfile

import numpy as np
import pytest
from dossiers import SCRIPT, failed, forge, verify, write_three

NAMES = ("minimum", "saddle", "anywhere")


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    return write_three(tmp_path_factory.mktemp("proofs"))


def test_copies_that_nobody_tampered_with_pass(proofs, tmp_path):
    copies = [forge(proofs / name, tmp_path / name, lambda *_: None) for name in NAMES]
    for code, said in verify(*copies):
        assert (code, "0 failed, 0 not" in said) == (0, True), said


# By hand: each of these is believable in itself --------------------------------------------------


def claim(name, change):
    def tamper(said, _):
        said["claims"][name] = change(said["claims"][name])

    return tamper


def both(*changes):
    def tamper(said, arrays):
        for change in changes:
            change(said, arrays)

    return tamper


def scalar(name, change):
    def tamper(said, _):
        said["problem"][name] = change(said["problem"][name])

    return tamper


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


def told(name, value):
    def tamper(said, _):
        said[name] = value

    return tamper


def swapped(labels):
    return labels[np.argsort([0, 2, 1, 3, 4, 5])]


def verdict(name):
    return claim("verdict", lambda _: name)


def lowered_and_consistent(said, _):
    said["claims"]["lower_bound"] = said["claims"]["value"]
    said["claims"]["gap"] = 0.0


def understated_and_consistent(said, _):
    """Whoever takes the depth from this bound gets a tolerance of 1."""
    claims = said["claims"] | {"verdict": "GLOBAL_MINIMUM", "lower_bound": -1e6, "tol": 1.0}
    said["claims"] = claims | {"gap": claims["value"] + 1e6}


def wraps_around(said, arrays):
    """Squares of these entries are 0 in 64-bit arithmetic."""
    arrays["W"] = np.eye(3, 4, dtype=np.int64) * 2**32
    arrays["H"] = np.zeros((4, 6))


def an_open_minimum(said, arrays):
    """A stored minimiser that is none, with numbers that fit it."""
    arrays["minimum_W"] = 0.9 * arrays["minimum_W"]
    counts = tuple(said["problem"]["class_counts"])
    problem = SCRIPT.read_problem(said["problem"] | {"class_counts": list(counts)})
    features = arrays["minimum_H"], np.arange(3), np.array(counts)
    star = SCRIPT.evaluate(problem, arrays["minimum_W"], arrays["minimum_b"], [features])
    blocks = SCRIPT.one_block(problem, arrays["H"])
    x = SCRIPT.evaluate(problem, arrays["W"], arrays["b"], blocks)
    spread = arrays["W"], arrays["b"], blocks, SCRIPT.class_means(problem, blocks)
    apart = SCRIPT.collapse_of(problem, *spread)
    case = SCRIPT.Case(said, said["claims"], problem, arrays, x, None, star, None, apart)
    distance = SCRIPT.distance_to_rotations(case)
    size = SCRIPT.length([SCRIPT.length(star.W), star.feature_size])
    said["claims"] |= {"minimum": star.value, "distance": distance}
    said["claims"]["relative_distance"] = distance / size


def imaginary(said, arrays):
    """A direction of negative square is a way down everywhere."""
    arrays["escape_W"], arrays["escape_H"] = 1j * arrays["W"], 1j * arrays["H"]
    said["claims"] |= {"verdict": "STRICT_SADDLE", "escape_curvature": -0.1}


def real_direction(said, arrays):
    size = np.sqrt(np.sum(arrays["W"] ** 2) + np.sum(arrays["H"] ** 2))
    arrays["escape_W"], arrays["escape_H"] = arrays["W"] / size, arrays["H"] / size
    said["claims"] |= {"verdict": "STRICT_SADDLE", "escape_curvature": -0.1}


#: (which, what was done, the check that must fail)
TAMPERED = {
    "saddle for minimum": ("saddle", verdict("GLOBAL_MINIMUM"), "form"),
    "saddle for local minimum": ("saddle", verdict("LOCAL_MINIMUM"), "form"),
    "minimum for undecided": ("minimum", verdict("UNDECIDED"), "verdict"),
    "minimum for not critical": ("minimum", verdict("NOT_CRITICAL"), "verdict"),
    "minimum for local": ("minimum", verdict("LOCAL_MINIMUM"), "verdict"),
    "minimum on a region": ("minimum", verdict("MINIMUM_ON_CONVEX_REGION"), "verdict"),
    "minimum for saddle": ("minimum", real_direction, "verdict"),
    "minimum for saddle, imaginary": ("minimum", imaginary, "form"),
    "anywhere for minimum": ("anywhere", verdict("GLOBAL_MINIMUM"), "verdict"),
    "anywhere for undecided": ("anywhere", verdict("UNDECIDED"), "verdict"),
    "anywhere with a lax tolerance": (
        "anywhere",
        both(verdict("GLOBAL_MINIMUM"), claim("tol", lambda _: 1e3)),
        "tol",
    ),
    "a tolerance of one's own": (
        "anywhere",
        both(verdict("GLOBAL_MINIMUM"), told("tol", 1e6), claim("tol", lambda _: 1e6)),
        "form",
    ),
    "a tolerance from another bound": ("anywhere", understated_and_consistent, "tol"),
    "anywhere called critical": (
        "anywhere",
        both(verdict("UNDECIDED"), claim("critical_tol", lambda _: 1e3)),
        "critical_tol",
    ),
    "critical called steep": (
        "minimum",
        both(verdict("NOT_CRITICAL"), claim("critical_tol", lambda _: 0.0)),
        "critical_tol",
    ),
    "no gap small enough": (
        "minimum",
        both(verdict("UNDECIDED"), claim("tol", lambda _: 0.0)),
        "tol",
    ),
    "rounding as an excuse": (
        "minimum",
        both(verdict("UNDECIDED"), told("rounding", 1.0)),
        "rounding",
    ),
    "a tolerance twice the rule's": ("minimum", claim("tol", lambda tol: 2 * tol), "tol"),
    "critical up to twice the rule's": (
        "minimum",
        claim("critical_tol", lambda tol: 2 * tol),
        "critical_tol",
    ),
    "f lowered": ("minimum", claim("value", lambda f: f - 1e-9), "f"),
    "bound raised": ("minimum", claim("lower_bound", lambda f: f + 1e-9), "lower bound"),
    "bound raised to f": ("anywhere", lowered_and_consistent, "lower bound"),
    "gap": ("anywhere", claim("gap", lambda gap: 0.5 * gap), "gap"),
    "gradient": ("anywhere", claim("grad_norm", lambda x: 1.001 * x), "|grad f|"),
    "dual norm": ("anywhere", claim("dual_norm", lambda x: 1.001 * x), "|Gamma|_2"),
    "mu": ("minimum", claim("threshold", lambda x: 1.001 * x), "mu"),
    "curvature": ("saddle", claim("escape_curvature", lambda x: 1.001 * x), "escape curvature"),
    "direction": ("saddle", array("escape_W", lambda x: -x), "escape curvature"),
    "NC1": ("anywhere", claim("nc1", lambda x: 0.9 * x), "nc1"),
    "NC2": ("anywhere", claim("nc2", lambda x: 0.9 * x), "nc2"),
    "NC3": ("anywhere", claim("nc3", lambda x: 0.9 * x), "nc3"),
    "NC4": ("anywhere", claim("nc4", lambda x: x + 1 / 6), "nc4"),
    "NC1 where there is none": ("saddle", claim("nc1", lambda _: 0.0), "nc1"),
    "variability": (
        "anywhere",
        claim("within_between_ratio", lambda x: 0.9 * x),
        "within_between_ratio",
    ),
    "f*": ("minimum", claim("minimum", lambda f: 1.001 * f), "minimum f*"),
    "an open minimum": ("anywhere", an_open_minimum, "minimum is global"),
    "distance": ("anywhere", claim("distance", lambda x: 0.9 * x), "distance"),
    "relative": ("anywhere", claim("relative_distance", lambda x: 0.9 * x), "relative distance"),
    "decay of W": ("minimum", scalar("lam_w", lambda x: 1.001 * x), "f"),
    "decay of H": ("minimum", scalar("lam_h", lambda x: 1.001 * x), "f"),
    "decay of b": ("anywhere", scalar("lam_b", lambda x: 1.001 * x), "f"),
    "inferred": ("anywhere", scalar("lam_h", lambda x: 1.001 * x), "lam_h inferred"),
    "loss": ("minimum", scalar("loss", lambda _: "ls:0.1001"), "f"),
    "counts": ("minimum", scalar("class_counts", lambda _: [3, 2, 1]), "form"),
    "labels": ("minimum", array("labels", swapped), "form"),
    "integers that wrap around": ("minimum", wraps_around, "form"),
    "one bias for all": ("anywhere", array("b", lambda b: b[:1]), "form"),
    "one bias for all of the minimum": ("minimum", array("minimum_b", lambda b: b[:1]), "form"),
    "a row that spreads": ("saddle", array("escape_W", lambda x: x[:1]), "form"),
    "a line within a text": ("minimum", told("x\n25 checks: 0 failed", 0), "form"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_certificates_fail(name, proofs, tmp_path):
    which, change, check = TAMPERED[name]
    assert check in failed(forge(proofs / which, tmp_path / "forged", change))


# The files ----------------------------------------------------------------------------------------


def test_the_archive_holds_each_array_once_and_no_pickle(proofs, tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("LOADED",))

    trap = array("b", lambda _: np.array([Trap()], dtype=object))
    [(code, said)] = verify(forge(proofs / "minimum", tmp_path / "pickle", trap))
    assert code == 1
    assert "LOADED" not in said

    folder = forge(proofs / "minimum", tmp_path / "twice", lambda *_: None)
    with zipfile.ZipFile(folder / "arrays.npz") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there twice
        for name, data in [*content.items(), ("W.npy", content["W.npy"])]:
            archive.writestr(name, data)
    (folder / "arrays.npz").write_bytes(buffer.getvalue())
    assert "SHA-256" in failed(folder)["form"]
    said = json.loads((folder / "certificate.json").read_text())
    said["arrays_sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    (folder / "certificate.json").write_text(json.dumps(said))
    assert "twice" in failed(folder)["form"]


def test_arrays_of_another_certificate_are_noticed_by_their_digest(proofs, tmp_path):
    def turn(_, arrays):  # of no consequence for any number
        arrays["order"] = arrays["order"][::-1]

    found = failed(forge(proofs / "minimum", tmp_path / "proof", turn, sign=False))
    assert list(found) == ["form"]
    assert "SHA-256" in found["form"]


def test_a_forged_text_cannot_imitate_a_line(proofs, tmp_path, capsys):
    forged = told("x\n25 checks: 0 failed, 0 not checkable.\x1b[2J", 0)
    folder = forge(proofs / "minimum", tmp_path / "forged", forged)
    assert SCRIPT.main([str(folder)]) == 1
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 2
    assert printed.splitlines()[1] == "1 checks: 1 failed, 0 not checkable."
    assert "\x1b" not in printed


# Checks that no forgery of today reaches ---------------------------------------------------------


def test_a_bound_above_f_fails(proofs):
    """Nothing sound gives one: here it is given by hand."""
    case = SCRIPT.read(proofs / "minimum")
    assert SCRIPT.check_contradiction(case).outcome == "ok"
    above = SCRIPT.Bound(case.point.value + 1e-9, 0.0, 0.0)
    for name in ("bound", "minimiser_bound"):
        found = SCRIPT.check_contradiction(dataclasses.replace(case, **{name: above}))
        assert found.outcome == "FAILED"


def test_rounding_forgives_no_more_than_the_tolerance(proofs):
    case = SCRIPT.read(proofs / "minimum")
    tol = case.claims["tol"]
    for gap, outcome in ((1.9, "ok"), (2.1, "FAILED")):
        bound = SCRIPT.Bound(case.point.value - gap * tol, np.inf, np.inf)
        assert SCRIPT.check_verdict(dataclasses.replace(case, bound=bound)).outcome == outcome
