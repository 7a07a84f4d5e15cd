"""Which alarms stand: one process of a server looks as windows grow and end, writes them down and logs news.

Prometheus is told from the file (`exposing`), so that all processes together tell it once.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from engine.monitor.drift.counts import WindowCounts
from engine.monitor.drift.examining import PREVIOUS_MS, References, Section, examine
from engine.monitor.drift.judging import FIRST_LOOK
from engine.monitor.drift.windows import DAY_MS, WindowFolder, replace_file

ALARMS_FILE: Final = "alarms.json"
_LOCK: Final = "alarms.lock"
_EACH_S: Final = 15.0
"""How often it is looked whether a window has grown enough to be judged."""

_log = structlog.get_logger("engine.monitor.drift")


@dataclass(frozen=True, slots=True)
class Alarm:
    """One variable that drifts. `measures` say by what, `value` and `threshold` are those of the first."""

    subject: str
    variable: str
    window: str
    from_ms: int
    measures: tuple[str, ...]
    value: float
    threshold: float

    @property
    def name(self) -> tuple[str, str, str]:
        """What stays the same while it stands."""
        return self.subject, self.variable, self.window


@dataclass(frozen=True, slots=True)
class Standing:
    """The alarms that stand, and what was looked at to say so: the window in progress and its look."""

    alarms: tuple[Alarm, ...] = ()
    window_from_ms: int = 0
    look: int = 0


_decoder: Final = msgspec.json.Decoder(Standing)


def standing(folder: Path) -> Standing:
    """What is written down; nothing where nobody looked yet, or the file cannot be read."""
    try:
        return _decoder.decode((folder / ALARMS_FILE).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return Standing()


class DriftWatch:
    """Looks at the counts of all processes. Not safe for threads."""

    def __init__(self, folder: WindowFolder, references: Callable[[], References], *, window_ms: int) -> None:
        self._folder = folder
        self._references = references
        self._window_ms = window_ms
        self._looked_s = -_EACH_S

    def look(self, now_ms: int) -> None:
        """Judges what has grown or ended since anybody looked; does nothing where another process does."""
        if time.monotonic() - self._looked_s < _EACH_S:
            return
        self._looked_s = time.monotonic()
        with _alone(self._folder.folder) as alone:
            if alone:
                self.judge(now_ms)

    def judge(self, now_ms: int) -> Standing:
        """What stands now, written down; judged anew only where a window has ended or doubled."""
        before = standing(self._folder.folder)
        from_ms = now_ms - now_ms % self._window_ms
        look = _look(self._folder.windows(since_ms=from_ms))
        if (before.window_from_ms, before.look) == (from_ms, look):
            return before
        windows = self._folder.windows(since_ms=now_ms - PREVIOUS_MS - DAY_MS)
        sections = examine(windows, self._references(), since_ms=from_ms - self._window_ms)
        now = Standing(tuple(_alarms(_newest(sections, from_ms))), from_ms, look)
        replace_file(self._folder.folder / ALARMS_FILE, msgspec.json.encode(now))
        _tell(before, now)
        return now


def _look(windows: Sequence[WindowCounts]) -> int:
    """How often a window of so many decisions has been worth a look; 0 before the first."""
    decisions = max((counts.decisions for w in windows for counts in w.models.values()), default=0)
    return (decisions // FIRST_LOOK).bit_length()


def _newest(sections: Iterable[Section], from_ms: int) -> Iterator[Section]:
    """Of each subject and length of window the last that has enough to be judged."""
    newest: dict[tuple[str, str], Section] = {}
    for section in sections:
        ended = section.until_ms <= from_ms
        if section.judged and (ended or section.decisions >= FIRST_LOOK):
            newest[section.subject, section.window] = section
    return iter(newest.values())


def _alarms(sections: Iterable[Section]) -> Iterator[Alarm]:
    for section in sections:
        for verdict in section.alarms:
            first = verdict.measures[verdict.alarms[0]]
            yield Alarm(
                section.subject,
                verdict.variable.name,
                section.window,
                section.from_ms,
                tuple(measure.value for measure in verdict.alarms),
                first.value,
                first.threshold,
            )


def _tell(before: Standing, now: Standing) -> None:
    known, stand = {alarm.name for alarm in before.alarms}, {alarm.name for alarm in now.alarms}
    for alarm in now.alarms:
        if alarm.name not in known:
            _log.warning(
                "drift.alarm",
                subject=alarm.subject,
                variable=alarm.variable,
                window=alarm.window,
                measures=alarm.measures,
                value=round(alarm.value, 4),
                threshold=round(alarm.threshold, 4),
                advice="`arbiter drift report` shows it; docs/drift.md says what to do",
            )
    for subject, variable, window in sorted(known - stand):
        _log.info("drift.alarm.ended", subject=subject, variable=variable, window=window)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process is in the block; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
