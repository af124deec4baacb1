"""Where nobody reads what is printed, or it cannot be written: one line at most, and an exit code.

Whoever closed the pipe closed it before the process began, so nothing hangs on who is quicker.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Buffers as a shell gives them, whatever the tests run under.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
PROGRAM = [sys.executable, "-c", "from ufm.cli import main; raise SystemExit(main())"]


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def ended(*arguments: str, broken: tuple[str, ...]) -> tuple[int, str]:
    """Exit code, and what was said on the stream that is not broken."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipe = closed_pipe()
    try:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            **streams | dict.fromkeys(broken, pipe),
            env=BUFFERED,
            check=False,
        )
    finally:
        os.close(pipe)
    return done.returncode, ((done.stdout or b"") + (done.stderr or b"")).decode()


@pytest.mark.parametrize(
    ("arguments", "broken", "code"),
    [
        (["version"], ("stdout",), 1),  # fits into the buffer: only flushing it fails
        (["solve", "--help"], ("stdout",), 1),  # ends by an exception of the parser
        (["completion", "bash"], ("stdout",), 1),  # more than the buffer holds
        (["slove"], ("stderr",), 2),
        (["slove"], ("stdout", "stderr"), 2),
        (["version"], ("stdout", "stderr"), 1),
        (["version"], ("stderr",), 0),
    ],
)
def test_output_that_nobody_reads_on_ends_without_a_complaint(arguments, broken, code):
    found, said = ended(*arguments, broken=broken)
    assert found == code
    if code or "stdout" in broken:
        assert said == ""


def test_a_table_that_nobody_reads_ends_in_the_same_way(tmp_path):
    """Tables are printed by rich, which has an answer of its own."""
    options = ["--starts", "1", "--max-steps", "0", "--losses", "ce", "--out", str(tmp_path / "x")]
    sizes = ["--num-classes", "4", "--dim", "6", "--per-class", "5"]
    assert ended("solve", *sizes, *options, broken=("stdout",)) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("arguments", [["version"], ["completion", "bash"], ["solve", "--help"]])
def test_output_that_cannot_be_written_is_one_line_and_code_2(arguments):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, env=BUFFERED, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode().endswith("No space left on device\n")
    assert done.stderr.count(b"\n") == 1


def test_without_standard_output_nothing_is_said():
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "version"],
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
