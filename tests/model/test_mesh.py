"""One problem over several devices and several processes: the answer of one device."""

import json
import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from ufm import (
    CrossEntropy,
    Problem,
    certify,
    init_params,
    nc_metrics,
    sample_mesh,
    shard_samples,
    solve,
)

#: What the other tests use.
PROBLEM = Problem.balanced(
    loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=5e-3, lam_h=5e-3, lam_b=1e-2
)
#: Prints what every process has at the end; H is never in one place, so its part is saved.
SCRIPT = """
import json, sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
process, processes, address, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if processes > 1:
    jax.distributed.initialize(address, processes, process)
import ufm
from ufm.solvers._solve import _newton, _prepare

problem = ufm.Problem.balanced(
    loss=ufm.CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=5e-3, lam_h=5e-3, lam_b=1e-2
)
mesh = ufm.sample_mesh()
start = ufm.init_sharded(problem, jax.random.key(0), mesh)
solution = ufm.solve(problem, start)
certificate = ufm.certify(problem, solution.params)
tol, steps, floor = _prepare(problem, start.W.dtype, "newton", None, None)
options = {"method": "newton", "use_noise_floor": floor}
lowered = _newton._compiled.lower(problem, start, tol, steps, **options)
program = lowered.compile().as_text()

def parts(array):
    return [(part.index[1].start or 0, np.asarray(part.data).tolist())
            for part in array.addressable_shards]

def refusal():
    # Of 20 samples over three devices.
    try:
        ufm.shard_samples(problem, start, ufm.sample_mesh(jax.devices()[:3]))
    except ValueError as error:
        return str(error)

print("RESULT", json.dumps({
    "devices": mesh.size,
    "start": parts(start.H),
    "W": np.asarray(solution.params.W).tolist(),
    "H": parts(solution.params.H),
    "value": float(solution.value),
    "steps": int(solution.num_steps),
    "status": solution.status.name,
    "verdict": certificate.verdict.name,
    "gap": float(certificate.gap),
    "nc2": float(ufm.nc_metrics(problem, solution.params).nc2),
    "gathers": program.count("all-gather("),
    "sums": program.count("all-reduce("),
    "refused": refusal() if mesh.size > 3 else None,
}))
"""


def environment(devices: int) -> dict[str, str]:
    """With this many devices, and how the other tests are compiled."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags}


def ran(processes: int, devices: int, folder) -> list[dict]:
    """What each process printed."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as held:
        # Nobody else is given the port as long as it is held; the coordinator shares it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        running = [
            subprocess.Popen(
                [sys.executable, script, str(i), str(processes), address, str(folder)],
                env=environment(devices),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(processes)
        ]
        said = [child.communicate(timeout=240) for child in running]
    assert [child.returncode for child in running] == [0] * processes, said[0][1]
    return [json.loads(re.search(r"RESULT (.*)", out)[1]) for out, _ in said]


def joined(found: list[dict], name: str) -> np.ndarray:
    """H from the parts that the processes hold."""
    parts = sorted(part for result in found for part in result[name])
    return np.concatenate([np.asarray(columns) for _, columns in parts], axis=1)


@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (2, 1)])
def test_the_answer_is_that_of_one_device(processes, devices, tmp_path):
    found = ran(processes, devices, tmp_path)
    start = init_params(PROBLEM, jax.random.key(0))
    solution = solve(PROBLEM, start)
    certificate = certify(PROBLEM, solution.params)
    assert {result["devices"] for result in found} == {4 if processes == 1 else 2}
    # The start has the same numbers (another program may round them), and no device had them all.
    np.testing.assert_allclose(joined(found, "start"), start.H, rtol=1e-14)
    widths = {len(columns[0]) for result in found for _, columns in result["start"]}
    assert widths == {20 // (processes * devices)}
    for result in found:
        assert (result["status"], result["verdict"]) == ("CONVERGED", certificate.verdict.name)
        # Sums in another order: rounding of f, and of a point to the gradient's tolerance over λ.
        assert result["value"] == pytest.approx(float(solution.value), rel=1e-14)
        assert result["gap"] < 1e-8
        assert result["nc2"] < 1e-6
        logits = np.asarray(result["W"]) @ joined(found, "H")
        expected = np.asarray(solution.params.W) @ np.asarray(solution.params.H)
        np.testing.assert_allclose(logits, expected, atol=1e-10 / 5e-3)
        # Devices exchange sums over samples, and never the samples.
        assert result["gathers"] == 0
        assert result["sums"] > 0
    assert len({json.dumps([r["value"], r["W"]]) for r in found}) == 1
    if devices > 3:
        said = "20 samples cannot be split evenly over 3 devices: choose other"
        assert found[0]["refused"].startswith(said)


def test_a_mesh_of_one_device_changes_nothing():
    start = init_params(PROBLEM, jax.random.key(0))
    spread = shard_samples(PROBLEM, start, sample_mesh(jax.devices()[:1]))
    first, second = solve(PROBLEM, start), solve(PROBLEM, spread)
    np.testing.assert_array_equal(first.params.H, second.params.H)
    metrics = [nc_metrics(PROBLEM, run.params).nc2 for run in (first, second)]
    assert metrics[0] == metrics[1]
