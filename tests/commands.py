"""The command, run in this process."""

import os

import pytest

from ufm.cli import main


def complaint(capsys, *arguments: str) -> str:
    """The one line on standard error of a command that ends with 2 and writes nothing."""
    capsys.readouterr()
    before = sorted(os.listdir())
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ufm: error: ")
    assert captured.err.count("\n") == 1
    assert sorted(os.listdir()) == before
    return captured.err.removeprefix("ufm: error: ").rstrip("\n")
