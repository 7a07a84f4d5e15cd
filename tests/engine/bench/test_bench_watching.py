"""The benchmark of being watched measures what it says."""

from __future__ import annotations

import pytest

from engine.bench import watching


def test_being_watched_is_measured_for_one_process_and_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of steps are a part of it; with several processes each counter is a file."""
    monkeypatch.setattr(watching, "CALLS", 200)
    monkeypatch.setattr(watching, "TURNS", 3)

    figures = watching.measure()

    assert set(figures) == {
        "watched_us", "watched_steps_us", "watched_several_us", "watched_steps_several_us",
    }  # fmt: skip
    assert figures["watched_us"] > 0
    assert figures["watched_several_us"] > 0
