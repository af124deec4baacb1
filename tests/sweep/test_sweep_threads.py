"""The bits of a sweep on other numbers of cores: the threads of its first run are used again."""

import json
import os
import subprocess
import sys

import pytest

from sweeps import finished_store
from ufm.sweep.provenance import continue_with_threads, threads

#: A gradient large enough that XLA divides its products among threads.
CODE = """
import hashlib, os, sys
os.sched_setaffinity(0, {int(core) for core in sys.argv[2].split(",")})
from pathlib import Path
from ufm.sweep.provenance import continue_with_threads, threads
continue_with_threads(Path(sys.argv[1]))
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from ufm import CrossEntropy, Params, Problem
from ufm.model.objective import value_and_gradient
problem = Problem(CrossEntropy(), (300,) * 10, 64, 1e-3, 1e-3, 1e-2)
drawn = map(np.random.default_rng(0).standard_normal, ((10, 64), (64, 3000), 10))
found = jax.jit(value_and_gradient)(problem, Params(*map(jax.device_put, drawn)))
bits = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(found))
print(threads(), hashlib.sha256(bits).hexdigest())
"""


def bits(store, cores: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("NPROC", "PJRT_NPROC")}
    command = [sys.executable, "-c", CODE, str(store), cores]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be withheld here")
def test_one_core_gives_the_bits_of_all(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    environment = {"environment": {"threads": len(cores)}}
    (tmp_path / "sweep.json").write_text(json.dumps(environment))
    everywhere = bits(tmp_path, ",".join(map(str, cores)))
    assert everywhere.startswith(f"{len(cores)} ")
    assert bits(tmp_path, str(cores[0])) == everywhere


def test_the_threads_of_the_first_run_are_used_again(tmp_path, monkeypatch):
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.setenv(name, "5")
    assert threads() == 5
    _, out = finished_store(tmp_path)
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name)
    continue_with_threads(out)
    assert (os.environ["NPROC"], os.environ["PJRT_NPROC"]) == ("5", "5")
    # A number that nobody's first run had would fill the memory with threads.
    text = (out / "sweep.json").read_text()
    (out / "sweep.json").write_text(text.replace('"threads": 5', '"threads": 99999'))
    monkeypatch.setenv("NPROC", "3")
    continue_with_threads(out)
    assert os.environ["NPROC"] == "3"
    monkeypatch.setenv("NPROC", "many")
    assert threads() > 0
    continue_with_threads(tmp_path)  # no sweep: nothing to go by
    assert os.environ["NPROC"] == "many"
