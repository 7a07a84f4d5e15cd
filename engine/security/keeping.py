"""What files of operators say: read anew when they change, and kept where the new ones are no good."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import structlog

from engine.errors import SetupInvalid

Value = TypeVar("Value")


class Reread(Protocol):
    """Is told what was read anew, and whether it is good. It must neither wait nor raise."""

    def __call__(self, what: str, *, well: bool) -> None:
        """`what` is certificates, roles or token_keys."""
        ...


LOOK_S: Final = 1.0
"""Between two looks at files. A look costs 2 us a file, which calls need not pay; a second is soon enough."""

_Stamp = tuple[int, int, int] | None

_log = structlog.get_logger("engine.security")


class Kept(Generic[Value]):
    """The last good value of some files. Safe for threads."""

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[[], Value],
        *,
        told: Reread,
        look_s: float = LOOK_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` names it in log and metrics. Raises SetupInvalid where the first reading does."""
        self._what = what
        self._paths = tuple(paths)
        self._read = read
        self._told = told
        self._look_s = look_s
        self._clock_s = clock_s
        self._reading = threading.Lock()
        self._stamps = self._look()
        self._value = read()
        self._next_s = clock_s() + look_s

    @property
    def current(self) -> Value:
        """The value; where the time for a look has come, that of the files now if they are good."""
        if self._clock_s() >= self._next_s and self._reading.acquire(blocking=False):
            try:
                self._follow(forced=False)
            finally:
                self._reading.release()
        return self._value

    def reread(self) -> None:
        """Reads the files now, changed or not."""
        with self._reading:
            self._follow(forced=True)

    def _follow(self, *, forced: bool) -> None:
        self._next_s = self._clock_s() + self._look_s
        stamps = self._look()
        if stamps == self._stamps and not forced:
            return
        self._stamps = stamps
        try:
            self._value = self._read()
        except SetupInvalid as error:
            _log.error("security.reread.failed", what=self._what, cause=str(error))
            self._told(self._what, well=False)
            return
        _log.info("security.reread", what=self._what)
        self._told(self._what, well=True)

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> _Stamp:
    """What tells one content from another; links are followed, as secrets of Kubernetes are links."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_bytes(path: Path, setting: str, *, largest: int) -> bytes:
    """A file of an operator. Raises SetupInvalid where it cannot be read or is too large for what it is."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise SetupInvalid(f"{path}: the file of {setting} cannot be read: {error.strerror}") from error
    if len(content) > largest:
        raise SetupInvalid(
            f"{path}: the file of {setting} has more than {largest} bytes; is it the right one?"
        )
    return content


def read_text(path: Path, setting: str, *, largest: int) -> str:
    """A text file of an operator. Raises SetupInvalid where it is none."""
    try:
        return read_bytes(path, setting, largest=largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SetupInvalid(
            f"{path}: the file of {setting} is not UTF-8 text at byte {error.start}"
        ) from error
