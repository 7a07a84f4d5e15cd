"""Compresses the logs of a server in the background: another process does the work, at the lowest priority.

Not a thread of the server: between two calls that compress, Python would make decisions wait for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog

from engine.decisionlog.compressing import Compressed, compress
from engine.decisionlog.errors import LogError

_LEAST_URGENT: Final = 19
"""Of the priorities of processes."""


class Compressor:
    """Compresses segments that ended `after_s` ago, about as often, from `start` to `close`.

    Several processes may have one for the same logs: while one works the others leave it to it.
    """

    def __init__(self, directories: Sequence[Path], *, after_s: float) -> None:
        self._directories = tuple(directories)
        self._after_s = after_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None
        self._refused: set[str] = set()
        self._log = structlog.get_logger("engine.decisionlog.compressor")
        self._thread = threading.Thread(target=self._run, name="log-compressor", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins. Call it in the process that serves, after it was spawned."""
        self._thread.start()

    def close(self) -> None:
        """Ends; a segment that is being compressed stays as it was."""
        self._stop.set()
        with self._lock:
            if self._worker is not None:
                self._worker.terminate()
        if self._thread.is_alive():
            self._thread.join()

    def turn(self) -> None:
        """Compresses what is due now, in a process of its own, and tells of it."""
        command = [sys.executable, "-m", __name__, str(self._after_s), *map(str, self._directories)]
        with self._lock:
            if self._stop.is_set():
                return
            self._worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603  # our own module
        told, _ = self._worker.communicate()
        for line in told.splitlines(keepends=True):
            if line.endswith(b"\n"):  # else it was stopped while it told
                self._tell(msgspec.json.decode(line, type=Compressed))
        code = self._worker.returncode
        if code and not self._stop.is_set():
            self._log.warning("log.compressing_failed", exit_code=code, advice="run `arbiter log compress`")

    def _tell(self, done: Compressed) -> None:
        if not done.refused:
            sizes = {"bytes_before": done.bytes_before, "bytes_after": done.bytes_after}
            self._log.info("log.segment_compressed", path=done.path, **sizes)
        elif done.refused not in self._refused:  # once is enough: it stays as it is
            self._refused.add(done.refused)
            self._log.warning("log.segment_not_compressed", path=done.path, cause=done.refused)

    def _run(self) -> None:
        while not self._stop.wait(self._after_s):
            try:
                self.turn()
            except OSError as error:  # no memory for another process, say
                self._log.warning("log.compressing_failed", cause=str(error))


def compress_all(directories: Iterable[Path], *, ended_before_s: float) -> int:
    """Compresses several logs and prints a line of JSON for each segment; the exit code."""
    failed = 0
    for directory in directories:
        try:
            for done in compress(directory, ended_before_s=ended_before_s, patient=False):
                sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
                sys.stdout.buffer.flush()
        except LogError:
            failed = 1
    return failed


if __name__ == "__main__":
    os.nice(_LEAST_URGENT)
    _after_s, *_directories = sys.argv[1:]
    raise SystemExit(compress_all(map(Path, _directories), ended_before_s=time.time() - float(_after_s)))
