"""The benchmark of counting, and our side of the comparison with evidently."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from engine.bench import drift, drift_evidently
from engine.bench.drift_evidently import customers, judged, planted


def test_handing_over_counting_and_keeping_are_timed() -> None:
    """Microseconds, of which the claim is the sum of the first two."""
    figures = drift.measure(decisions=64)

    assert set(figures) == {"drift_counting_us", "drift_handing_over_us", "drift_keeping_us_each_5_s"}
    assert all(value > 0 for value in figures.values())
    assert figures["drift_counting_us"] > figures["drift_handing_over_us"]


def test_changed_windows_are_found_and_others_left_alone() -> None:
    """Of the sizes that are large enough to tell."""
    data, rng = customers(), np.random.default_rng(1)
    order = rng.permutation(len(data.rows))
    windows = {
        str(i): window
        for i, window in enumerate(planted(data, order[4_225:], rng, repeats=1))
        if window.size >= 2_000
    }

    found = judged(data, data.rows[order[:4_225]], windows)

    assert {name: {w.feature} - {""} for name, w in windows.items()} == found


def test_without_evidently_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends with 2."""
    monkeypatch.setattr(drift_evidently, "SIZES", (100,))
    monkeypatch.setattr(drift_evidently, "_SIDE", drift_evidently._SIDE.with_name("nowhere.py"))

    code = drift_evidently.main(["--repeats", "1", "--python", sys.executable])

    assert code == 2
    assert "pip install evidently" in capsys.readouterr().err
