"""Every way to make a certificate say what is not so: verify.py says FAILED, and where."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dossiers import verify, write_three


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    return write_three(tmp_path_factory.mktemp("proofs"))


def tampered(source: Path, target: Path, change, sign: bool = True) -> Path:
    """A copy in which `change(said, arrays)` was at work, signed again with the right digest."""
    shutil.copytree(source, target)
    said = json.loads((target / "certificate.json").read_text())
    with np.load(target / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    change(said, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (target / "arrays.npz").write_bytes(buffer.getvalue())
    if sign:
        said["arrays_sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    (target / "certificate.json").write_text(json.dumps(said))
    return target


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


def swapped(labels):
    return labels[np.argsort([0, 2, 1, 3, 4, 5])]


def verdict(name):
    return claim("verdict", lambda _: name)


def lowered_and_consistent(said, _):
    said["claims"]["lower_bound"] = said["claims"]["value"]
    said["claims"]["gap"] = 0.0


#: (which, what was done, a check that must fail)
TAMPERED = {
    "saddle for minimum": ("saddle", verdict("GLOBAL_MINIMUM"), "verdict"),
    "saddle for local minimum": ("saddle", verdict("LOCAL_MINIMUM"), "verdict"),
    "saddle for undecided": ("saddle", verdict("UNDECIDED"), "verdict"),
    "minimum for saddle": ("minimum", verdict("STRICT_SADDLE"), "reading"),
    "minimum for undecided": ("minimum", verdict("UNDECIDED"), "verdict"),
    "minimum for local": ("minimum", verdict("MINIMUM_ON_CONVEX_REGION"), "verdict"),
    "anywhere for minimum": ("anywhere", verdict("GLOBAL_MINIMUM"), "verdict"),
    "anywhere with a lax tolerance": (
        "anywhere",
        both(verdict("GLOBAL_MINIMUM"), claim("tol", lambda _: 1e3)),
        "tol ",
    ),
    "anywhere called critical": (
        "anywhere",
        both(verdict("UNDECIDED"), claim("critical_tol", lambda _: 1e3)),
        "critical_tol",
    ),
    "a tolerance twice the rule's": ("minimum", claim("tol", lambda tol: 2 * tol), "tol "),
    "critical up to twice the rule's": (
        "minimum",
        claim("critical_tol", lambda tol: 2 * tol),
        "critical_tol",
    ),
    "f lowered": ("minimum", claim("value", lambda f: f - 1e-9), "f "),
    "bound raised": ("minimum", claim("lower_bound", lambda f: f + 1e-9), "lower bound"),
    "bound raised to f": ("anywhere", lowered_and_consistent, "lower bound"),
    "gap": ("anywhere", claim("gap", lambda gap: 0.5 * gap), "gap"),
    "no gap": ("anywhere", claim("gap", lambda _: None), "gap"),
    "gradient": ("anywhere", claim("grad_norm", lambda x: 1.001 * x), "|grad f|"),
    "dual norm": ("anywhere", claim("dual_norm", lambda x: 1.001 * x), "|Gamma|_2"),
    "mu": ("minimum", claim("threshold", lambda x: 1.001 * x), "mu"),
    "curvature": ("saddle", claim("escape_curvature", lambda x: 1.001 * x), "escape curvature"),
    "direction": ("saddle", array("escape_W", lambda x: -x), "escape curvature"),
    "long direction": ("saddle", array("escape_W", lambda x: 2 * x), "escape length"),
    "NC1": ("anywhere", claim("nc1", lambda x: 0.9 * x), "nc1"),
    "NC2": ("anywhere", claim("nc2", lambda x: 0.9 * x), "nc2"),
    "NC3": ("anywhere", claim("nc3", lambda x: 0.9 * x), "nc3"),
    "NC4": ("anywhere", claim("nc4", lambda x: x + 1 / 6), "nc4"),
    "NC1 where there is none": ("saddle", claim("nc1", lambda _: 0.0), "nc1"),
    "variability": ("anywhere", claim("within_between_ratio", lambda x: 0.9 * x), "within_b"),
    "f*": ("minimum", claim("minimum", lambda f: 1.001 * f), "minimum f*"),
    "minimiser": ("minimum", array("minimum_W", lambda x: 0.9 * x), "minimum f*"),
    "distance": ("anywhere", claim("distance", lambda x: 0.9 * x), "distance"),
    "relative": ("anywhere", claim("relative_distance", lambda x: 0.9 * x), "relative distance"),
    "decay of W": ("minimum", scalar("lam_w", lambda x: 1.001 * x), "f "),
    "decay of H": ("minimum", scalar("lam_h", lambda x: 1.001 * x), "f "),
    "decay of b": ("anywhere", scalar("lam_b", lambda x: 1.001 * x), "f "),
    "inferred": ("anywhere", scalar("lam_h", lambda x: 1.001 * x), "lam_h inferred"),
    "loss": ("minimum", scalar("loss", lambda _: "ls:0.1001"), "f "),
    "another loss": ("minimum", scalar("loss", lambda _: "hinge"), "reading"),
    "counts": ("minimum", scalar("class_counts", lambda _: [3, 2, 1]), "problem"),
    "W": ("minimum", array("W", lambda x: 1.001 * x), "f "),
    "H": ("anywhere", array("H", lambda x: x[:, ::-1]), "f "),
    "b": ("anywhere", array("b", lambda x: -x), "f "),
    "labels": ("minimum", array("labels", swapped), "f "),
    "shape": ("minimum", array("H", lambda x: x[:, 1:]), "problem"),
    "not a number": ("minimum", array("W", lambda x: x * np.nan), "reading"),
}


@pytest.fixture(scope="module")
def judged(proofs, tmp_path_factory):
    """What verify.py says of every tampered copy."""
    base = tmp_path_factory.mktemp("tampered")
    folders = [
        tampered(proofs / which, base / str(i), change)
        for i, (which, change, _) in enumerate(TAMPERED.values())
    ]
    return dict(zip(TAMPERED, verify(*folders), strict=True))


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_certificates_fail(name, judged):
    code, said = judged[name]
    assert code == 1, said
    assert f"FAILED         {TAMPERED[name][2]}" in said, said


def test_the_copies_that_were_tampered_with_pass_untouched(proofs, tmp_path):
    names = ("minimum", "saddle", "anywhere")
    copies = [tampered(proofs / name, tmp_path / name, lambda *_: None) for name in names]
    for code, said in verify(*copies):
        assert (code, "0 failed, 0 not" in said) == (0, True), said


def test_arrays_of_another_certificate_are_noticed_by_their_digest(proofs, tmp_path):
    def turn(_, arrays):  # of no consequence for any number
        arrays["order"] = arrays["order"][::-1]

    [(code, said)] = verify(tampered(proofs / "minimum", tmp_path / "proof", turn, sign=False))
    assert code == 1
    assert "FAILED         arrays.npz" in said
    assert said.count("FAILED") == 1


def test_a_pickle_in_the_arrays_is_refused(proofs, tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("LOADED",))

    change = array("b", lambda _: np.array([Trap()], dtype=object))
    [(code, said)] = verify(tampered(proofs / "minimum", tmp_path / "proof", change))
    assert code == 1
    assert "LOADED" not in said
    assert "allow_pickle=False" in said
