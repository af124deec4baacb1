"""How the tests of the examples run them: in this process, in quick mode, as users do."""

import runpy
import sys
from pathlib import Path

import jax

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(name: str, monkeypatch, *options: str) -> None:
    path = EXAMPLES / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--quick", *options])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    # Users run them with JAX's defaults, and optax needs those.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(path), run_name="__main__")
