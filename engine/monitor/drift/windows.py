"""The counts on disk: one file for each process and window, replaced as a whole, added up when they are read.

A process that is killed loses what it counted since its last file, a few seconds; a new one has files of its
own. Nothing waits for these files, and nothing is decided from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_origin

import msgspec
import numpy as np
import structlog

from engine.monitor.drift.counts import WindowCounts, added_up

FORMAT: Final = 1
DAY_MS: Final = 86_400_000
_SUFFIX: Final = ".json"

_log = structlog.get_logger("engine.monitor.drift")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A window's counts as they are written."""

    format: int
    window: WindowCounts


def _to_json(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} is not counted")


def _from_json(wanted: type, value: object) -> object:
    if get_origin(wanted) is np.ndarray and isinstance(value, list):
        return np.array(value, dtype=np.int64)
    raise NotImplementedError(f"{wanted} cannot be read from counts")


_encoder: Final = msgspec.json.Encoder(enc_hook=_to_json)
_decoder: Final = msgspec.json.Decoder(_Kept, dec_hook=_from_json)


def encode_window(window: WindowCounts) -> bytes:
    """The counts as JSON that a person can read."""
    return _encoder.encode(_Kept(FORMAT, window))


def decode_window(content: bytes) -> WindowCounts:
    """The counts behind JSON. Raises ValueError saying why they cannot be read."""
    try:
        kept = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"holds no counts: {error}") from error
    if kept.format != FORMAT:
        raise ValueError(f"has format {kept.format}, this engine reads {FORMAT}")
    return kept.window


@dataclass(frozen=True, slots=True)
class Baseline:
    """Counts that were declared the normal ones, by whom and when."""

    format: int
    activated_at_ms: int
    actor: str
    window: WindowCounts


_baseline_decoder: Final = msgspec.json.Decoder(Baseline, dec_hook=_from_json)
_BASELINE: Final = "baseline.json"


def activate_baseline(folder: Path, window: WindowCounts, *, actor: str, now_ms: int) -> None:
    """Makes counts what others are compared with. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / _BASELINE, _encoder.encode(Baseline(FORMAT, now_ms, actor, window)))


def remove_baseline(folder: Path) -> bool:
    """Goes back to what models were trained on and the windows before; False where that was so."""
    there = (folder / _BASELINE).exists()
    (folder / _BASELINE).unlink(missing_ok=True)
    return there


def read_baseline(folder: Path) -> Baseline | None:
    """The activated baseline; None where there is none, and with a warning where it cannot be read."""
    try:
        return _baseline_decoder.decode((folder / _BASELINE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("drift.baseline_unreadable", path=str(folder / _BASELINE), cause=str(error))
        return None


def replace_file(path: Path, content: bytes) -> None:
    """Puts a file in its place as a whole: a reader sees the one before or this one. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


class WindowFolder:
    """The windows of all processes on one data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, window: WindowCounts, *, writer: str) -> None:
        """Writes what one process counted in a window so far. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / f"{window.from_ms}-{writer}{_SUFFIX}", encode_window(window))

    def windows(self, *, since_ms: int = 0, until_ms: int | None = None) -> list[WindowCounts]:
        """Windows that begin in [since_ms, until_ms), those of all processes added up, oldest first.

        A file that cannot be read is left out with a warning in the log.
        """
        by_time: dict[tuple[int, int], list[WindowCounts]] = {}
        for path, from_ms in self._files():
            if from_ms < since_ms or (until_ms is not None and from_ms >= until_ms):
                continue
            try:
                window = decode_window(path.read_bytes())
            except FileNotFoundError:  # removed since, as too old
                continue
            except (OSError, ValueError) as error:
                _log.warning("drift.window_unreadable", path=str(path), cause=str(error))
                continue
            by_time.setdefault((window.from_ms, window.until_ms), []).append(window)
        return [_together(by_time[times]) for times in sorted(by_time)]

    def remove_before(self, limit_ms: int) -> int:
        """Removes windows that began before an instant; how many files."""
        old = [path for path, from_ms in self._files() if from_ms < limit_ms]
        for path in old:
            with suppress(FileNotFoundError):  # another process removes them too
                path.unlink()
        return len(old)

    def _files(self) -> Iterable[tuple[Path, int]]:
        for path in sorted(self.folder.glob(f"*-*{_SUFFIX}")):
            start, _, _ = path.name.partition("-")
            if start.isdecimal():
                yield path, int(start)


def _together(windows: list[WindowCounts]) -> WindowCounts:
    """What several processes counted; what does not add up, of bins that have changed, is left out."""
    first, *others = windows
    for other in others:
        try:
            first = first + other
        except ValueError as error:
            _log.warning("drift.windows_differ", from_ms=other.from_ms, cause=str(error))
    return first


def by_day(windows: Iterable[WindowCounts]) -> list[WindowCounts]:
    """The windows of each day (UTC) added up, oldest first; from midnight to midnight."""
    days: dict[int, list[WindowCounts]] = {}
    for window in windows:
        days.setdefault(window.from_ms // DAY_MS, []).append(window)
    found = [(day, added_up(of_day)) for day, of_day in sorted(days.items())]
    return [_lasting(window, day) for day, window in found if window is not None]


def _lasting(window: WindowCounts, day: int) -> WindowCounts:
    return WindowCounts(day * DAY_MS, (day + 1) * DAY_MS, window.models, window.channels, window.uncounted)


def models_of(windows: Iterable[WindowCounts]) -> Mapping[str, int]:
    """Model versions that were counted, and how many decisions of each."""
    found: dict[str, int] = {}
    for window in windows:
        for name, counts in window.models.items():
            found[name] = found.get(name, 0) + counts.decisions
    return found
