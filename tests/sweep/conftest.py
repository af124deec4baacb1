"""A finished sweep, computed once."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A sweep and its finished store, which nobody changes."""
    from sweeps import finished_store  # after the hook that checks shapes and types

    return finished_store(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it to be damaged."""
    return whole[0], Path(shutil.copytree(whole[1], tmp_path / "out"))
