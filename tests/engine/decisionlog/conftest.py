"""Shared by the tests of logs: a directory, and checkpoints outside it."""

import pytest
from log_examples import Clock

from engine.decisionlog.checkpoints import Checkpoints


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def checkpoints(tmp_path, clock):
    """Checkpoints in a directory outside the log."""
    return Checkpoints(tmp_path / "elsewhere", "log", clock=clock)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "log"
