"""Webhooks that were given up, by their places in the log of outcomes: nothing of a customer is kept here.

So who is erased from the log is erased here too, and a letter is sent again as the log has it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.decisionlog.journal import MAX_SEGMENT_BYTES
from engine.decisionlog.ledger import Ledger, journal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadWebhook:
    """A message that was given up: why, after how many attempts, since when it failed.

    With `removed` it is one no more: it was sent after all, or dropped.
    """

    webhook_id: str
    position: int
    received_at_ms: int
    cause: str = ""
    attempts: int = 0
    failed_first_ms: int = 0
    removed: bool = False


class DeadWebhooks:
    """A journal of them. Several processes may write. Raises LogError."""

    def __init__(self, directory: Path) -> None:
        self._ledger = Ledger(journal_of(directory, 0, MAX_SEGMENT_BYTES, None), DeadWebhook)

    def __enter__(self) -> Self:
        self._ledger.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ledger.close()

    def put(self, letter: DeadWebhook) -> None:
        """Keeps a letter; it is on disk when this returns."""
        self._ledger.append(letter)

    def letters(self) -> list[DeadWebhook]:
        """Every letter that is not removed, the oldest first; one that was given up twice is one."""
        kept: dict[str, DeadWebhook] = {}
        for letter in self._ledger.replay():
            if letter.removed:
                kept.pop(letter.webhook_id, None)
            else:
                kept[letter.webhook_id] = letter
        return list(kept.values())

    def remove(self, letters: Sequence[DeadWebhook], *, now_ms: int) -> None:
        """Takes letters out."""
        for letter in letters:
            self._ledger.append(
                DeadWebhook(
                    webhook_id=letter.webhook_id,
                    position=letter.position,
                    received_at_ms=max(now_ms, letter.received_at_ms + 1),  # replays go by time
                    removed=True,
                )
            )
