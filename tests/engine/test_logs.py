"""The log tells what went wrong and where, and never with whose data."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest
import structlog

from engine import logs

SECRET = "planted-31415"


class Stream(io.StringIO):
    """Where a log goes: a terminal or a file."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def configured_as_before() -> Iterator[None]:
    """Other tests have a log of their own."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def fail(token: str) -> None:
    """Raises, with a secret in a variable."""
    raise ZeroDivisionError(f"of {len(token)} characters")


@pytest.mark.parametrize("terminal", [False, True])
def test_traceback_holds_no_values(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """The lines of code, not what its variables held: a token, say, or a customer's number."""
    stream, secret = Stream(terminal=terminal), SECRET
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("info")

    try:
        fail(secret)
    except ZeroDivisionError:
        structlog.get_logger("test").exception("call.failed")

    assert "ZeroDivisionError" in stream.getvalue()
    assert SECRET not in stream.getvalue()
