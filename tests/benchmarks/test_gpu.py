"""The benchmark for accelerators runs, at small sizes on the CPU: it must not fail where one is."""

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What the script finds, run in this process: one of its own imports and compiles anew."""
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    with (
        pytest.MonkeyPatch.context() as patch,
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        patch.syspath_prepend(str(SCRIPT.parent))
        patch.setattr(sys, "argv", [str(SCRIPT), "--small", "--out", str(out)])
        patch.setattr(signal, "setitimer", lambda *_: None)  # pytest has a limit of its own
        runpy.run_path(str(SCRIPT), run_name="__main__")
    for name in ("cases", "roofline"):
        del sys.modules[name]
    return list(json.loads(out.read_text(encoding="utf-8"))["parts"].values())


def test_every_part_is_done(parts):
    assert len(parts) == 5
    assert [part["error"] for part in parts if "error" in part] == []


def test_a_product_is_counted_as_six_matrix_products(parts):
    product = parts[0]
    # Six products of a 4×6, a 6×20 or a 4×20 matrix.
    assert product["gflops"] * product["seconds"] == pytest.approx(6 * 2 * 4 * 6 * 20 / 1e9)
    assert product["share_of_peak"] == pytest.approx(product["gflops"] / product["peak_gflops"])


def test_gaps_are_proven_in_float64_and_not_in_float32(parts):
    _, large, _, sweep, main = parts
    assert (large["verdict"], large["status"]) == ("GLOBAL_MINIMUM", "CONVERGED")
    assert large["relative_gap"] <= 1e-6
    assert sweep["verdicts"] == {"GLOBAL_MINIMUM": 4}
    assert main["float64"]["verdicts"] == {"GLOBAL_MINIMUM": 3}
    assert main["float64"]["relative_gap"] <= 1e-6 < main["float32"]["relative_gap"]
    assert main["float64"]["nc1"] < 1e-18 < main["float32"]["nc1"] < 1e-9


def test_a_network_is_trained(parts):
    network = parts[2]
    assert network["status"] == "completed"
    assert network["train_accuracy"] > 0.5
    assert network["images_per_second"] * network["epoch"] == pytest.approx(200)


def test_it_ends_at_its_limit(tmp_path):
    options = "--small", "--minutes", "0.0001", "--out", str(tmp_path / "x")
    ran = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True)
    assert ran.returncode == -signal.SIGALRM
