"""What came of an attempt to send a message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # for good: this message, as it is
    FAILED = "failed"  # it may be taken later
    AWAY = "away"  # nobody answered in time, or the receiver is busy: no message would be taken now
    GONE = "gone"  # the receiver asks for no message ever


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of an attempt in words; `status` None where there was no answer."""

    result: Result
    cause: str
    status: int | None = None
    wait_s: float = 0.0
    """How long the receiver asks not to be asked again."""
