"""The process of durable-rules, asked for one spell of measuring at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from threading import Timer
from types import TracebackType
from typing import Any, Final, Self

from engine.bench.parts import PartMissing

_TIMEOUT_S: Final = 300.0


class DurableProcess:
    """Runs while it is entered; `held` are the rows it fired for each customer. Raises PartMissing."""

    held: list[list[int]]

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "engine.bench.durable_side"]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603  # our own module
        self._end = Timer(_TIMEOUT_S, self._process.kill)
        self._end.start()
        try:
            self.held = self._answer()["held"]
        except PartMissing:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def spell_us(self) -> float:
        """Microseconds per customer, in the best round of one more spell."""
        assert self._process.stdin is not None  # a pipe
        with suppress(BrokenPipeError):  # it has ended, which its answer tells
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return float(self._answer()["us"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # a pipe
        line = self._process.stdout.readline()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        _, errors = self._process.communicate()
        last = errors.strip().splitlines()[-1:] or [f"exit code {self._process.returncode}"]
        raise PartMissing(f"durable-rules did not run ({last[0]}); install the `bench` extra")

    def _stop(self) -> None:
        self._end.cancel()
        self._process.kill()
        self._process.communicate()
