"""What counting for drift costs a decision: handing over, counting many at once, keeping a file."""

from __future__ import annotations

import gc
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.bench.drift_replay import company, decided, drawn
from engine.bench.timing import best_processor_s
from engine.bootstrap import wall_clock_ms
from engine.decisionlog.record import DecisionRecord
from engine.monitor.drift.windows import encode_window
from engine.service.drifting import BATCH, DriftCounts, Seen, seen
from engine.service.live import LiveSnapshot
from engine.settings import Settings

DECISIONS: Final = BATCH
_ROUNDS: Final = 200
_AT_HAND: Final = 8


def measure(decisions: int = DECISIONS) -> dict[str, float]:
    """Microseconds of one decision, and of writing a window once in five seconds."""
    now_ms = wall_clock_ms()
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as folder:
        place = company(Settings(data_dir=Path(folder)), now_ms=now_ms)
        records = list(decided(place, drawn(decisions, of=len(place.customers), seed=1), now_ms=now_ms))
    counts = DriftCounts(
        live=LiveSnapshot(lambda: place.snapshot), reference_of=place.reference_of, window_ms=3_600_000
    )
    batch = [seen(record) for record in records]
    handed_us = _per_record_us(lambda: _hand_over(records), decisions)
    counted_us = _per_record_us(lambda: counts.count(batch), decisions)
    window = next(iter(counts.windows.values()))
    kept_us = best_processor_s(lambda: encode_window(window), rounds=_ROUNDS) * 1e6
    return {
        "drift_counting_us": handed_us + counted_us,
        "drift_handing_over_us": handed_us,
        "drift_keeping_us_each_5_s": kept_us,
    }


def _per_record_us(work: Callable[[], None], decisions: int) -> float:
    gc.collect()
    return best_processor_s(work, rounds=_ROUNDS) / decisions * 1e6


def _hand_over(records: list[DecisionRecord]) -> None:
    """What the thread that decides does; a few records again and again, as a decision has its own at hand."""
    few = records[:_AT_HAND]
    for _ in range(len(records) // _AT_HAND):
        waiting: deque[Seen] = deque()
        for record in few:
            waiting.append(seen(record))
